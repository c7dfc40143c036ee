"""Mounts: one function per kernel call, and the id-mapped bind mount that three calls make."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

PAGE = 4096
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x40000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x1, 0x4, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_IDMAP = 0x1, 0x2, 0x4, 0x00100000

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    """``struct mount_attr`` of linux/mount.h."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source: str, target: Path, kind: str, flags: int = 0, data: str = "") -> None:
    _check(_libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, data.encode()), f"mount {kind}")


def unmount(target: Path, *, lazy: bool = False) -> bool:
    """False: nothing was mounted there.  Follows no symbolic link."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    try:
        _check(_libc.umount2(os.fsencode(target), flags), "umount2")
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOENT}:
            return False
        raise
    return True


def idmapped_bind(source: Path, target: Path, userns_fd: int, *, read_only: bool = True, flags: int = 0) -> None:
    """Show ``source`` at ``target`` with its owners mapped through a user namespace (mount_setattr(2)).

    ``flags``: further MOUNT_ATTR flags.
    """
    tree = _clone(source)
    try:
        attributes = _MountAttr(MOUNT_ATTR_IDMAP | (MOUNT_ATTR_RDONLY if read_only else 0) | flags, 0, 0, userns_fd)
        _check(
            _libc.syscall(
                SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, ctypes.byref(attributes), ctypes.sizeof(attributes)
            ),
            "mount_setattr",
        )
        _check(
            _libc.syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH),
            "move_mount",
        )
    finally:
        os.close(tree)


def _clone(source: Path) -> int:
    return _check(
        _libc.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(source), OPEN_TREE_CLONE | os.O_CLOEXEC), "open_tree"
    )


def bind_onto(source: Path, folder: int) -> None:
    """Show what ``source`` is at a folder that is open, whatever its path leads to by now; flags and owners stay mapped."""
    tree = _clone(source)
    try:
        flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
        _check(_libc.syscall(SYS_MOVE_MOUNT, tree, b"", folder, b"", flags), "move_mount")
    finally:
        os.close(tree)


def overlay(lowers: Sequence[Path], upper: Path, work: Path, target: Path) -> None:
    """``lowers`` top first, as the kernel reads them.

    Whatever the kernel's own default, a renamed folder is copied: ``upper`` then says by itself what changed (overlayfs.rst).
    Raises OSError E2BIG when the options outgrow the one page that mount(2) copies.
    """
    data = f"lowerdir={':'.join(map(str, lowers))},upperdir={upper},workdir={work},redirect_dir=off,metacopy=off"
    if len(data) >= PAGE - 1:
        raise OSError(errno.E2BIG, "too many layers for one overlay mount")
    mount("overlay", target, "overlay", MS_NODEV, data)


def bind(source: Path, target: Path) -> None:
    """Works for namespace files, too."""
    mount(str(source), target, "none", MS_BIND)


def table_of(pid: int) -> list[bytes]:
    """The rows of a process's mounts (proc(5), mountinfo): those within its root, none where it has chrooted to a plain folder.

    Raises ProcessLookupError; one that has ended has no mounts, which the kernel says by EINVAL.
    """
    try:
        return [row for row in Path(f"/proc/{pid}/mountinfo").read_bytes().split(b"\n") if row]
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.EINVAL}:
            raise
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None


def mounts_under(prefix: Path) -> tuple[Path, ...]:
    """Mount points at or below a folder, deepest first (proc(5), mountinfo)."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for row in table:
            point = row.split(" ", 5)[4]
            for escape, char in (("\\040", " "), ("\\011", "\t"), ("\\134", "\\")):
                point = point.replace(escape, char)
            if point == str(prefix) or point.startswith(f"{prefix}/"):
                found.append(Path(point))
    return tuple(sorted(found, key=lambda path: len(path.parts), reverse=True))
