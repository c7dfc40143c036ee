"""The disk is never filled to the last byte by an image: the database and the containers write to it, too."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from runtime.errors import OutOfSpace

MOST_KEPT_FREE = 1 << 30
SHARE_KEPT_FREE = 20
"""One part in this many, up to the above; likewise of the inodes."""
LOOK_EVERY = 1 << 20
"""Bytes between two looks."""
ENTRY = 16 << 10
"""What a file without content counts as: its inode, its name, its block."""


def disk_full(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def out_of_space() -> OutOfSpace:
    return OutOfSpace(
        "The node's disk is full, so the image could not be stored.",
        hint="Remove images or containers, then try again.",
    )


def check_room(folder: Path, wanted: int = 0) -> None:
    """Raises OutOfSpace when ``wanted`` more bytes would leave too little of the file system free."""
    found = os.statvfs(folder)
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    if free - wanted < min(MOST_KEPT_FREE, total // SHARE_KEPT_FREE):
        raise out_of_space()
    if found.f_files and found.f_favail < min(10_000, found.f_files // SHARE_KEPT_FREE):
        raise out_of_space()


class Room:
    """Looks again after every MiB.  ``most`` bounds the whole; beyond it :meth:`take` raises OverflowError."""

    def __init__(self, folder: Path, most: int = sys.maxsize) -> None:
        self._folder = folder
        self._most = most
        self._taken = 0
        self._looked = -LOOK_EVERY

    def take(self, size: int) -> None:
        self._taken += size
        if self._taken > self._most:
            raise OverflowError(self._taken)
        if self._taken - self._looked >= LOOK_EVERY:
            self._looked = self._taken
            check_room(self._folder)
