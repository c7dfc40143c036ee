"""Work in a thread that does nothing else: what it changes of itself (namespaces, user) is nobody else's, and ends with it."""

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

    interruptions: list[BaseException] = []
    threading.Thread(target=visit).start()
    while not over.is_set():
        try:
            over.wait()
        except BaseException as interruption:  # noqa: BLE001 -- raised below
            interruptions.append(interruption)
    if interruptions:
        raise interruptions[0]
    if failures:
        raise failures[0]
    return results[0]
