"""One ``up`` over a home, and one over an instance's name."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from launcher.refusal import Refusal


class Lock:
    """A flock, held until the process ends however it ends.  The file tells who holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def holder(self) -> str:
        """What the holder wrote, or "" when nobody holds it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not there, or not to be reached: the checks of the home say what is wrong
            return ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        finally:
            os.close(descriptor)
        return ""

    def acquire(self, what: str) -> None:
        """Raises Refusal when somebody else holds it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise Refusal(
                f"Slipway is already running over {what} ({who or 'another process'}).",
                "Stop that one first (Ctrl-C where it runs), or give this one another --home and SLIPWAY_INSTANCE.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
