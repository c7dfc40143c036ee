"""Files as block devices (loop(4)): one device per file, freed by the kernel when nothing has it open or mounted any more.

Autoclear is set in the same call that makes the device, so neither a crash nor a kill leaks one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import HostUnfit

CONTROL = Path("/dev/loop-control")
DEVICES = Path("/sys/block")
GET_FREE, CONFIGURE = 0x4C82, 0x4C0A
AUTOCLEAR = 4
DEADLINE_S = 10.0
POLL_S = 0.01


class _Info(ctypes.Structure):
    """``struct loop_info64`` of linux/loop.h."""

    _fields_ = [
        ("numbers", ctypes.c_uint64 * 5), ("number", ctypes.c_uint32), ("kind", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("name", ctypes.c_char * 64),
        ("rest", ctypes.c_uint8 * 112),
    ]  # fmt: skip


class _Config(ctypes.Structure):
    """``struct loop_config`` of linux/loop.h."""

    _fields_ = [
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", _Info),
        ("reserved", ctypes.c_uint64 * 8),
    ]


@contextlib.contextmanager
def attached(image: Path) -> Iterator[Path]:
    """The device of a file, for as long as the block lasts or the device is mounted.

    A file that has a device keeps that one: two devices on one file system would destroy it.  The caller holds a lock that no
    two share for the same file.  Raises HostUnfit, OSError; TimeoutError when no device comes free.
    """
    image = image.resolve()
    deadline = time.monotonic() + DEADLINE_S
    while (descriptor := _existing(image)) is None and (descriptor := _new(image)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "no loop device comes free")
        time.sleep(POLL_S)
    try:
        yield Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    finally:
        os.close(descriptor)


def devices_of(folder: Path) -> dict[str, Path]:
    """Device's name -> file, of each device whose file lies below a folder; also one that was deleted since."""
    found = {}
    for entry in DEVICES.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            file = Path(entry.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n"))
            if folder.resolve() in file.parents:
                found[entry.parts[-3]] = file
    return found


def _existing(image: Path) -> int | None:
    """A descriptor keeps the device from being cleared; what was being cleared when it was opened is another's by now."""
    for name, file in devices_of(image.parent).items():
        if file == image:
            with contextlib.suppress(OSError):
                descriptor = _open(name)
                if devices_of(image.parent).get(name) == image:
                    return descriptor
                os.close(descriptor)
    return None


def _new(image: Path) -> int | None:
    """None: somebody else took the free one first."""
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise HostUnfit("The kernel has no loop devices.", hint="Load its module loop.") from None
    try:
        descriptor = _open(f"loop{fcntl.ioctl(control, GET_FREE)}")
    finally:
        os.close(control)
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        config = _Config(fd=file, info=_Info(flags=AUTOCLEAR, name=os.fsencode(image)[-63:]))
        fcntl.ioctl(descriptor, CONFIGURE, bytes(config))
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EBUSY:
            return None
        raise
    finally:
        os.close(file)
    return descriptor


def _open(name: str) -> int:
    """Where nobody makes the nodes of new devices, as in a container that Slipway runs in, it is made here."""
    node = Path("/dev", name)
    if not node.exists():
        major, _, minor = (DEVICES / name / "dev").read_text(encoding="ascii").partition(":")
        with contextlib.suppress(FileExistsError):
            os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
    return os.open(node, os.O_RDWR | os.O_CLOEXEC)
