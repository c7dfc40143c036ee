"""Work in a thread that does nothing else: what it changes of itself (namespaces, user, table of descriptors) is nobody else's, and ends with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises.  It begins in the caller's namespaces, and is over before the caller goes on, interrupted or not.

    ``concurrent.futures`` would do; loading it takes a small verb of the command line longer than its work.
    """
    results: list[T] = []
    failures: list[BaseException] = []
    over = threading.Event()  # join() of Python 3.11 takes a thread for ended after it was interrupted once

    def visit() -> None:
        try:
            results.append(work())
        except BaseException as failure:  # noqa: BLE001 -- raised below
            failures.append(failure)
        finally:
            over.set()

    threading.Thread(target=visit).start()
    try:
        over.wait()
    finally:
        over.wait()
    if failures:
        raise failures[0]
    return results[0]
