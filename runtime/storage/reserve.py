"""Room that is kept for ending things: on a full disk a container must still be stopped and removed, which writes a little.

One small file, given up when such a write finds no room, and made again once there is.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from runtime.home import atomic_write

RESERVED_BYTES = 256 * 2**10
"""Several hundred statuses and final readings of a block each."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    def __init__(self, file: Path) -> None:
        self._file = file

    def fill(self) -> bool:
        """False: there is no room for it now, as on a disk that is full."""
        if self._file.exists():
            return True
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}.new")
        try:
            with temporary.open("wb") as handle:
                os.posix_fallocate(handle.fileno(), 0, RESERVED_BYTES)
            os.replace(temporary, self._file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno not in FULL:
                raise
            return False
        return True

    def write(self, path: Path, data: bytes) -> None:
        """As :func:`runtime.home.atomic_write`, with the reserve's room if there is no other."""
        try:
            atomic_write(path, data)
        except OSError as error:
            if error.errno not in FULL or not self._file.exists():
                raise
            self._file.unlink(missing_ok=True)
            atomic_write(path, data)
