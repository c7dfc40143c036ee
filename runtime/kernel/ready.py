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


ENDED = select.POLLERR | select.POLLHUP


class Stream(Protocol):
    def fileno(self) -> int: ...


def readable(streams: Iterable[int | Stream], timeout_s: float | None = None) -> list[int]:
    """The descriptors of those that answer a read at once, be it with the end or an error; none after ``timeout_s``, or after a day.

    Raises OSError (EBADF) when one of them is closed.
    """
    return either(streams, (), timeout_s)[0]


def writable(stream: int | Stream, timeout_s: float | None = None) -> bool:
    """Likewise of a write; of a socket that connects: it has, or has failed."""
    return bool(either((), [stream], timeout_s)[1])


def either(
    readers: Iterable[int | Stream], writers: Iterable[int | Stream], timeout_s: float | None = None
) -> tuple[list[int], list[int]]:
    """Likewise: of ``readers`` those that answer a read, of ``writers`` those that answer a write; one stream may be among both."""
    wanted: dict[int, int] = {}
    for streams, event in ((readers, select.POLLIN), (writers, select.POLLOUT)):
        for stream in streams:
            descriptor = stream if isinstance(stream, int) else stream.fileno()
            wanted[descriptor] = wanted.get(descriptor, 0) | event
    poll = select.poll()
    for descriptor, mask in wanted.items():
        poll.register(descriptor, mask)
    found = poll.poll(None if timeout_s is None else max(0, math.ceil(min(timeout_s, MOST_S) * 1000)))
    if any(events & select.POLLNVAL for _, events in found):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return _those(found, wanted, select.POLLIN), _those(found, wanted, select.POLLOUT)


def _those(found: list[tuple[int, int]], wanted: dict[int, int], event: int) -> list[int]:
    """Of whoever wanted it; an end or an error answers both."""
    return [descriptor for descriptor, events in found if wanted[descriptor] & event and events & (event | ENDED)]
