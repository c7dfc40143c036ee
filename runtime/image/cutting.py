"""An end to a conversation as a whole: what comes byte by byte meets the timeout of each read, and never this one."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx


@contextlib.contextmanager
def cut_after(seconds: float, streams: Iterable[Any], late: Callable[[], Exception]) -> Iterator[None]:
    """``streams`` are httpcore's, those that are there when the time is over.  Raises ``late()`` for what failed because of it."""
    cut_off = threading.Event()

    def cut() -> None:
        cut_off.set()
        for stream in list(streams):
            with contextlib.suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except httpx.HTTPError:
        if cut_off.is_set():
            raise late() from None
        raise
    finally:
        timer.cancel()
