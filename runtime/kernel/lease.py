"""A lease on a file (fcntl(2), ``F_SETLEASE``): who opens the file for writing waits until its holder lets go, or has ended."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

NOBODY = 0


class Lease:
    """On a file that is made for it, empty, 0600; whoever only reads it never waits.

    The kernel ends it by itself after ``/proc/sys/fs/lease-break-time`` seconds of somebody's waiting (45, unless set otherwise).
    Raises OSError: there is such a file, or this file system or kernel has no leases; then nothing is held, and the file may be there.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(self._descriptor, fcntl.F_SETOWN, NOBODY)  # else the holder is told by SIGIO, of which it dies
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Twice is once.  Let go before it is closed: a process that another thread starts has the descriptor for a moment, too."""
        if self._descriptor >= 0:
            try:
                fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            finally:
                os.close(self._descriptor)
                self._descriptor = -1
