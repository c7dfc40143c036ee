"""Namespaces: inode numbers, bind mounts that keep one alive, a thread's visit to another network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from runtime.kernel import mount
from runtime.kernel.apart import apart

CLONE_FS, CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWNET = 0x200, 0x20000, 0x8000000, 0x40000000
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")

_libc = ctypes.CDLL(None, use_errno=True)


def inodes(pid: int | str = "self") -> dict[str, int]:
    """Kind -> inode number of each namespace of a process."""
    return {
        kind: os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in KINDS if os.path.exists(f"/proc/{pid}/ns/{kind}")
    }


def pin_network(pid: int, target: Path) -> None:
    """Keep the process's network namespace, and so its interfaces' counters, alive at ``target`` until it is unmounted."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    target.touch(mode=0o600)
    mount.bind(Path(f"/proc/{pid}/ns/net"), target)


def unpin_network(target: Path) -> bool:
    """False: there was nothing."""
    if not target.exists():
        return False
    mount.unmount(target, lazy=True)
    target.unlink(missing_ok=True)
    return True


def _setns(descriptor: int, kind: int = CLONE_NEWNET) -> None:
    if _libc.setns(descriptor, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def join_ipc(pid: int) -> None:
    """Move the calling thread, and only it, into a process' ipc namespace, for good.

    Raises OSError; ProcessLookupError when that is the one where we are: what had one of its own has ended, and its number is another's.
    """
    namespace = os.open(f"/proc/{pid}/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.path.samestat(os.fstat(namespace), os.stat("/proc/thread-self/ns/ipc")):
            raise ProcessLookupError(pid)
        _setns(namespace, CLONE_NEWIPC)
    finally:
        os.close(namespace)


def root_of_mounts(pid: int) -> int:
    """A descriptor of the root of a process's mount namespace, wherever the process itself has gone with chroot(2).

    A thread that goes there cannot come back to where the others are, so it is one that does nothing else.  Raises OSError.
    """
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return apart(lambda: _visit_root(namespace))
    finally:
        os.close(namespace)


def _visit_root(namespace: int) -> int:
    if _libc.unshare(CLONE_FS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _setns(namespace, CLONE_NEWNS)
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextlib.contextmanager
def inside_network(path: Path) -> Iterator[None]:
    """Move the calling thread, and only it, into a network namespace for a moment.

    A thread that could not come back would act on the wrong network from then on, so that ends the process.
    """
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        other = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(other)
        finally:
            os.close(other)
        try:
            yield
        finally:
            try:
                _setns(own)
            except OSError:
                os.abort()
    finally:
        os.close(own)
