"""Run as a script by root: does an overlay over an id-mapped folder work on the file system of the folder given?

It works in a mount namespace of its own, so nothing is left of it; the folder it makes is removed.
Exit code 0 and a sentence, or 1 and a sentence.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442  # the same on every architecture that Debian has
OPEN_TREE_CLONE, AT_EMPTY_PATH, MOVE_MOUNT_F_EMPTY_PATH = 0x1, 0x1000, 0x4
MOUNT_ATTR_IDMAP = 0x00100000
AT_FDCWD = -100
UID_BASE = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)


class MountAttr(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def call(what: str, result: int) -> int:
    if result < 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno()).lower()}")
    return result


def user_namespace() -> int:
    """A descriptor of a user namespace that maps 0 to UID_BASE; its process is gone when this returns."""
    ready, write_ready = os.pipe()
    child = os.fork()
    if child == 0:
        failed = libc.unshare(CLONE_NEWUSER)
        os.write(write_ready, b"n" if failed else b"y")
        signal.pause()
    try:
        if os.read(ready, 1) != b"y":
            sys.exit("unshare(CLONE_NEWUSER) is not allowed")
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{kind}").write_text(f"0 {UID_BASE} 65536\n", encoding="ascii")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def idmapped_overlay(folder: Path) -> None:
    lower, mapped, upper, work, merged = (folder / name for name in ("lower", "mapped", "upper", "work", "merged"))
    for path in (lower, mapped, upper, work, merged):
        path.mkdir()
    (lower / "file").touch()
    namespace = user_namespace()
    tree = call("open_tree", libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(lower), OPEN_TREE_CLONE))
    attr = MountAttr(MOUNT_ATTR_IDMAP, 0, 0, namespace)
    call(
        "id-mapping the folder",
        libc.syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, ctypes.byref(attr), ctypes.sizeof(attr)),
    )
    call("move_mount", libc.syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(mapped), MOVE_MOUNT_F_EMPTY_PATH))
    options = f"lowerdir={mapped},upperdir={upper},workdir={work}".encode()
    call("overlay over an id-mapped folder", libc.mount(b"overlay", os.fsencode(merged), b"overlay", 0, options))
    if (merged / "file").stat().st_uid != UID_BASE:
        sys.exit("the overlay does not show the mapped user ids")


def _in_child(folder: Path) -> NoReturn:
    """Never unwinds into the parent's clean-up, which must happen where the mounts are not."""
    try:
        call("unshare(CLONE_NEWNS)", libc.unshare(CLONE_NEWNS))
        call("private mounts", libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        idmapped_overlay(folder)
    except (SystemExit, OSError) as error:
        print(error, flush=True)
        os._exit(1)
    os._exit(0)


def main(place: str) -> None:
    with tempfile.TemporaryDirectory(prefix=".slipway-probe-", dir=place) as folder:
        child = os.fork()
        if child == 0:
            _in_child(Path(folder))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(1)
    print("an overlay over an id-mapped folder works here")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OSError as refused:
        sys.exit(f"not tried: {refused.filename or sys.argv[1]}: {(refused.strerror or str(refused)).lower()}")
