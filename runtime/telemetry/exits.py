"""Exits, as conmon tells them: a file named after the container, holding its exit code, appears in one folder (inotify(7))."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from pathlib import Path

IN_CLOSE_WRITE, IN_MOVED_TO, IN_IGNORED = 0x8, 0x80, 0x8000
CODE = re.compile(rb"-?\d{1,10}")
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"inotify: {os.strerror(number)}")
    return result


class ExitWatch:
    """A descriptor to wait on and a non-blocking read, for an event loop or a poll.

    A folder that is taken away, as a teardown does, is made and watched again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd: int = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watch()

    def _watch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _checked(_libc.inotify_add_watch(self._fd, os.fsencode(self.folder), IN_CLOSE_WRITE | IN_MOVED_TO))

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def read(self) -> tuple[str, ...]:
        """Ids of the containers that have exited since the last call; conmon's temporary names are left out."""
        ids: list[str] = []
        while True:
            try:
                content = os.read(self._fd, 65536)
            except BlockingIOError:
                return tuple(dict.fromkeys(ids))
            at = 0
            while at < len(content):
                _, mask, _, length = _HEADER.unpack_from(content, at)
                name = content[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0").decode()
                at += _HEADER.size + length
                if mask & IN_IGNORED:
                    self._watch()
                elif name and "." not in name:
                    ids.append(name)


def exit_code(folder: Path, container: str) -> int | None:
    """None: conmon has not said, or what it said is damaged."""
    try:
        text = (folder / container).read_bytes().strip()
    except FileNotFoundError:
        return None
    return int(text) if CODE.fullmatch(text) else None
