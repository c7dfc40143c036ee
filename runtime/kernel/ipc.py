"""Kernel settings of an ipc namespace (ipc_namespaces(7)), written from outside of it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from runtime.kernel import namespaces
from runtime.kernel.apart import apart
from runtime.kernel.syscalls import syscall

SYS_SETRESUID = {"x86_64": 117, "aarch64": 147, "riscv64": 147, "ppc64le": 164, "s390x": 208}
UNCHANGED = -1
REFUSALS = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ERANGE}
"""What the kernel says to a name or a value; anything else is no fault of theirs."""


def write_settings(pid: int, root: int, settings: Mapping[str, str]) -> None:
    """Set ``settings`` (name with dots -> value, ASCII) in the ipc namespace of a process that has one of its own.

    The kernel takes them from the node's root alone before Linux 6.9, and from then on from the root of the user namespace alone that the
    ipc namespace belongs to: ``root``, its id on the node.  Neither comes back, so a thread goes there that does nothing else.
    Raises OSError, with the setting's name as ``filename`` when the kernel has none of that name or does not take its value; those
    before it are written.
    """
    apart(lambda: _visit(pid, root, settings))


def _visit(pid: int, root: int, settings: Mapping[str, str]) -> None:
    namespaces.join_ipc(pid)
    for name, value in settings.items():
        try:
            _write(name, value)
        except PermissionError:
            _become(root)
            _write(name, value)


def _write(name: str, value: str) -> None:
    try:
        (Path("/proc/sys") / name.replace(".", "/")).write_text(value, encoding="ascii")
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise OSError(error.errno, error.strerror, name) from error


def _become(user: int) -> None:
    """Of the calling thread alone: setresuid(2) of the C library changes all of them.

    The process as a whole leaves no core dump from then on, as after anything that one of its threads does as another user.
    """
    syscall("setresuid", SYS_SETRESUID, UNCHANGED, user, UNCHANGED)
