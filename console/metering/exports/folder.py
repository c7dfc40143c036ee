"""A folder of the node as a place: under a root that an admin allows, with no link followed on the way.

What is made belongs to the root's owner and group and is readable by the group, so whoever the root is for can fetch it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from console.metering.exports.places import Failed, Refused

FOLDER_MODE, FILE_MODE = 0o750, 0o640
KEPT_FREE = 1 << 30
"""Bytes of the disk, or a twentieth of it where that is less, which no export takes."""
PART = ".part"


class Folder:
    def __init__(self, root: str, folder: str, *, allowed: Sequence[str]) -> None:
        """``folder``: below the root.  ``allowed``: the roots that an admin allows now."""
        self._root, self._folder, self._allowed = root, folder, allowed

    def put(self, name: str, source: Path) -> None:
        if self._root not in self._allowed:
            raise Refused("The node's admin no longer allows exports to this folder.")
        *parents, file = [part for part in f"{self._folder}/{name}".split("/") if part]
        try:
            with _opened(self._root) as root:
                _refuse_full(root, source.stat().st_size)
                with _below(root, parents) as folder:
                    _replace(folder, file, source, os.fstat(root))
        except OSError as fault:
            raise _told(fault) from None


def _told(fault: OSError) -> Refused | Failed:
    if fault.errno in {errno.ELOOP, errno.ENOTDIR, errno.EISDIR}:
        return Refused("Something in the folder is a link or no folder, which exports do not follow.")
    if fault.errno == errno.ENOENT:
        return Failed("The folder is not there: perhaps its disk is not mounted.")
    if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Failed("The disk of the folder is full.")
    return Failed(f"The folder cannot be written to: {os.strerror(fault.errno or 0)}.")


@contextlib.contextmanager
def _opened(path: str, under: int | None = None) -> Iterator[int]:
    """The root may be a link, for an admin named it; nothing below it may."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if under is None else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=under)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _below(root: int, parts: Sequence[str]) -> Iterator[int]:
    """The folder down there, made where it is not."""
    owner = os.fstat(root)
    with contextlib.ExitStack() as held:
        here = root
        for part in parts:
            made = _made(here, part)
            there = held.enter_context(_opened(part, here))
            if made:
                os.fchown(there, owner.st_uid, owner.st_gid)
                os.fsync(here)
            here = there
        yield here


def _made(under: int, name: str) -> bool:
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=under)
    except FileExistsError:
        return False
    return True


def _replace(folder: int, name: str, source: Path, owner: os.stat_result) -> None:
    """What a try that was killed left of this file goes first."""
    for left in os.listdir(folder):
        if left.startswith(f".{name}.") and left.endswith(PART):
            os.unlink(left, dir_fd=folder)
    part = f".{name}.{secrets.token_hex(4)}{PART}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with source.open("rb") as given, open(os.open(part, flags, FILE_MODE, dir_fd=folder), "wb") as target:
            os.fchown(target.fileno(), owner.st_uid, owner.st_gid)
            shutil.copyfileobj(given, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        raise
    os.fsync(folder)


def _refuse_full(root: int, size: int) -> None:
    disk = os.fstatvfs(root)
    kept = min(KEPT_FREE, disk.f_blocks * disk.f_frsize // 20)
    if disk.f_bavail * disk.f_frsize - size < kept:
        raise Failed("The disk of the folder is nearly full.")
