"""Room that is kept for ending things: on a full disk a container must still be stopped and removed, which writes a little.

A disk is full when it has no room for content or none for another file (inodes), so what is kept is a folder of small files.  A part
of them is given up each time such a write finds no room, and they are made again once there is some.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from runtime.home import atomic_write

FILES, BYTES = 64, 4096
"""A status and a final reading are a file of a block each."""
PART = 8
"""Given up at once: one alone may be taken by somebody else at once."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self) -> bool:
        """False: there is no room for it now, as on a disk that is full."""
        try:
            for name in sorted({str(number) for number in range(FILES)} - self._names()):
                self._keep(name)
        except OSError as error:
            if error.errno not in FULL:
                raise
            return False
        return True

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self._folder))
        except NotADirectoryError:  # the one file of an earlier version
            self._folder.unlink()
        except FileNotFoundError:
            pass
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return set()

    def _keep(self, name: str) -> None:
        file = self._folder / name
        try:
            with file.open("xb") as handle:
                os.posix_fallocate(handle.fileno(), 0, BYTES)
        except FileExistsError:  # somebody else's, of this moment
            return
        except OSError:
            file.unlink(missing_ok=True)
            raise

    def write(self, path: Path, data: bytes) -> None:
        """As :func:`runtime.home.atomic_write`, with the reserve's room if there is no other."""
        while True:
            try:
                return atomic_write(path, data)
            except OSError as error:
                if error.errno not in FULL or not self._give_up():
                    raise

    def _give_up(self) -> bool:
        """A part of it; False: nothing is left."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = sorted(os.listdir(self._folder))[:PART]
            for name in names:
                (self._folder / name).unlink(missing_ok=True)
            return bool(names)
        return False
