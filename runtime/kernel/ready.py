"""Which descriptors can be read or written now, by poll(2): select(2) knows none above 1023, and whoever reads a thousand containers has more."""

from __future__ import annotations

import errno
import math
import os
import select
from collections.abc import Iterable
from typing import Protocol

MOST_S = 86_400.0
"""At once: poll(2) counts milliseconds in 31 bits."""


class Stream(Protocol):
    def fileno(self) -> int: ...


def readable(streams: Iterable[int | Stream], timeout_s: float | None = None) -> list[int]:
    """The descriptors of those that answer a read at once, be it with the end or an error; none after ``timeout_s``, or after a day.

    Raises OSError (EBADF) when one of them is closed.
    """
    return _ready(streams, select.POLLIN, timeout_s)


def writable(stream: int | Stream, timeout_s: float | None = None) -> bool:
    """Likewise of a write; of a socket that connects: it has, or has failed."""
    return bool(_ready([stream], select.POLLOUT, timeout_s))


def _ready(streams: Iterable[int | Stream], event: int, timeout_s: float | None) -> list[int]:
    poll = select.poll()
    for stream in streams:
        poll.register(stream, event)
    found = poll.poll(None if timeout_s is None else max(0, math.ceil(min(timeout_s, MOST_S) * 1000)))
    if any(events & select.POLLNVAL for _, events in found):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return [descriptor for descriptor, _ in found]
