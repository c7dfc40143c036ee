"""inotify(7): what happens in a folder, told by a descriptor that never blocks."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x8, 0x40, 0x80
IN_Q_OVERFLOW, IN_IGNORED = 0x4000, 0x8000
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Happened(NamedTuple):
    watch: int
    """What :func:`watch` gave; -1 with IN_Q_OVERFLOW: what came then is lost."""
    mask: int
    name: bytes
    """In the folder; empty for the folder itself."""


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"inotify: {os.strerror(number)}")
    return result


def opened() -> int:
    """A descriptor.  Raises OSError: EMFILE when the user has ``fs.inotify.max_user_instances``."""
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def watch(descriptor: int, folder: Path, mask: int) -> int:
    """The same number for the same folder.  Raises OSError."""
    return _checked(_libc.inotify_add_watch(descriptor, os.fsencode(folder), mask))


def unwatch(descriptor: int, number: int) -> None:
    """Raises OSError: EINVAL when the folder is gone."""
    _checked(_libc.inotify_rm_watch(descriptor, number))


def happened(descriptor: int) -> Iterator[Happened]:
    """All that is there now.  What equals the one before it in the queue is told once."""
    while True:
        try:
            content = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        at = 0
        while at < len(content):
            number, mask, _, length = _HEADER.unpack_from(content, at)
            at += _HEADER.size + length
            yield Happened(number, mask, content[at - length : at].rstrip(b"\0"))
