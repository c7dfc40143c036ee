"""A disk of a size: a sparse file with ext4 in it, where the node's file system cannot limit a folder.

It holds as many bytes and files as fit and no more, whatever is done inside.  Content that is deleted goes back to the node.
Together disks may promise more than the node has.  What is written when it has no more fails, also what the file system writes of itself: then it
takes no more until it is mounted again, and is repaired before that.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from runtime import logs
from runtime.errors import EngineFault, HostUnfit, LimitExceeded
from runtime.kernel import loop, mount

FILE = "disk.img"
"""Its name among the files of what it belongs to."""
MKFS = "mkfs.ext4"
FSCK = "e2fsck"
MENDED = frozenset({0, 1})
"""Its exit codes (e2fsck(8)): all was well, all is well now."""
DEADLINE_S = 120
BLOCK = 4096
SMALL = 1 << 30
JOURNAL_MIB = (4, 16)
"""Of a small one and of a larger one: the journal is all of a fresh disk that takes room on the node."""
STATE, ERRORS = 1024 + 0x3A, 2
"""Where a superblock has its state, and the bit of it that says that errors were found (ext4/super.rst)."""
SPARES = tuple(f"spare-{number}" for number in range(8))
"""Empty files beside what its owner sees: see :func:`spared`."""
CLEARED_S = 5.0
"""For a device whose last mount has just gone."""

logger = logs.of(__name__)


def check_fits(folder: Path, size: int, field: str) -> None:
    """Raises LimitExceeded when the node's whole disk is smaller."""
    found = os.statvfs(folder)
    total = found.f_blocks * found.f_frsize
    if size > total:
        raise LimitExceeded(
            f"The node's disk has only {total // 2**20} MiB.", hint="Lower the limit.", field=field, most=total
        )


def make(image: Path, size: int, folders: Mapping[str, int]) -> None:
    """A new disk of ``size`` bytes with these empty folders (name -> owner) in it, durable.

    Nothing is mounted for it.  Raises HostUnfit, EngineFault, OSError.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(dir=image.parent, prefix=".disk-") as template:
        for name, owner in folders.items():
            path = Path(template, name)
            path.mkdir()
            path.chmod(0o755)
            os.chown(path, owner, owner)
        descriptor = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size - size % BLOCK)
            _format(image, size, template)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _format(image: Path, size: int, template: str) -> None:
    journal = JOURNAL_MIB[size >= SMALL]
    command = [
        MKFS, "-q", "-F", "-m", "0", "-b", str(BLOCK), "-J", f"size={journal}", "-e", "remount-ro", "-d", template, str(image),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise HostUnfit("mkfs.ext4 is missing.", hint="Install the package e2fsprogs.") from None
    except subprocess.TimeoutExpired:
        raise EngineFault("Making a disk took too long.", hint="Look at the node's disk.") from None
    if done.returncode != 0:
        raise EngineFault("The node could not make a disk of this size.", hint="Look at the node's disk.")


def show(image: Path, target: Path) -> None:
    """Mount the disk at a folder; several mounts of one disk are one file system.

    The caller holds a lock that no two share for the same file.  Raises OSError, EngineFault.
    """
    if _has_errors(image) and _free(image):
        _repair(image)
    with loop.attached(image) as device:
        mount.mount(str(device), target, "ext4", mount.MS_NODEV | mount.MS_NOSUID, "discard,errors=remount-ro")


@contextlib.contextmanager
def spared(root: Path) -> Iterator[None]:
    """While an overlay is mounted over a disk: the kernel makes a few files for that and takes them away again (fs/overlayfs/super.c).

    Nobody could mount one anew whose owner has made as many files as it takes.  So some are kept, given up for that moment, and made again
    before anything in it runs; on a disk of before them, as soon as there is room.
    """
    for name in SPARES:
        with contextlib.suppress(OSError):
            (root / name).unlink()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for name in SPARES:
                (root / name).touch(0o600)


def full(root: Path) -> bool:
    """Whether it takes no other file, or no more content."""
    found = os.statvfs(root)
    return not (found.f_ffree and found.f_bfree)


def _has_errors(image: Path) -> bool:
    with image.open("rb") as file:
        file.seek(STATE)
        return bool(int.from_bytes(file.read(2), "little") & ERRORS)


def _free(image: Path) -> bool:
    """Whether no device has it: while another container has it mounted, it stays as it is."""
    deadline = time.monotonic() + CLEARED_S
    while image.resolve() in loop.devices_of(image.parent).values():
        if time.monotonic() > deadline:
            return False
        time.sleep(loop.POLL_S)
    return True


def _repair(image: Path) -> None:
    """Raises HostUnfit, EngineFault."""
    try:
        done = subprocess.run(
            [FSCK, "-f", "-y", str(image)],
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        code = done.returncode
    except FileNotFoundError:
        raise HostUnfit("e2fsck is missing.", hint="Install the package e2fsprogs.") from None
    except subprocess.TimeoutExpired:
        code = -1
    if code not in MENDED:
        raise EngineFault(
            "The file system of the disk is damaged and could not be repaired.",
            hint="Make room on the node's disk and try again.",
        )
    logger.warning("the file system in %s had errors and was repaired", image)


def room_taken(image: Path) -> int:
    """Bytes on the node's disk."""
    return image.stat().st_blocks * 512
