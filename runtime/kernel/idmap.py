"""User namespaces: for containers, each its own, and as descriptors for id-mapped mounts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Self

from runtime.kernel.process import status_of
from runtime.kernel.ready import readable

DEADLINE_S = 10.0
IDS = 65536
CAP_SYS_RESOURCE = 24
"""linux/capability.h."""

KEPT = ("--inh-caps=+sys_admin", "--ambient-caps=+sys_admin")

_lock = threading.Lock()
_cache: dict[int, int] = {}


@cache
def owned_apart() -> bool:
    """Whether a container's user namespace can belong to its tenant's ids.

    A root without CAP_SYS_RESOURCE, as in a container of another engine, may set limits of processes only in namespaces of its own.
    """
    return bool(int(status_of(os.getpid())["CapEff"], 16) >> CAP_SYS_RESOURCE & 1)


class UserNamespace:
    """A new one that maps ids 0..65535 to ``base`` and those that follow.  It is made beside other work, and lives until this
    is left, or as long as somebody has joined it.

    It belongs to the user ``base``, not to root, where it is a container's (:func:`owned_apart`): what is counted for each user also counts for the owner of its namespace and is
    bounded there (inotify instances, bytes of message queues, pending signals: kernel/ucount.c).  Of namespaces that root owns, one
    container would use up all that the others and the node's own root have.

    It is made by a short-lived child: forking a threaded process to call unshare(2) in it is not safe.  The child keeps
    CAP_SYS_ADMIN until then, so that nodes which let nobody else make user namespaces let it.
    """

    def __init__(self, base: int, *, apart: bool = True) -> None:
        self._base = base
        self._mapped = False
        become = ["setpriv", f"--reuid={base}", f"--regid={base}", "--clear-groups", *KEPT] if apart else []
        command = [*become, "unshare", "--user", "--", "sh", "-c", "echo; read -r _"]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._child as child:
            child.kill()

    def path(self) -> Path:
        """What setns(2) takes, while this is not left.  Raises OSError when it could not be made in time."""
        if not self._mapped:
            self._await()
            for name in ("uid_map", "gid_map"):
                table = Path(f"/proc/{self._child.pid}/{name}")
                table.write_text(f"0 {self._base} {IDS}", encoding="ascii")
            self._mapped = True
        return Path(f"/proc/{self._child.pid}/ns/user")

    def _await(self) -> None:
        said = self._child.stdout
        if not said or not readable([said], DEADLINE_S) or not said.readline():
            raise OSError("unshare could not make a user namespace")


@contextlib.contextmanager
def beside(base: int) -> Iterator[UserNamespace | None]:
    """A container's; None where it cannot be owned apart: the container's runtime makes one then, which is root's."""
    if not owned_apart():
        yield None
        return
    with UserNamespace(base) as made:
        yield made


@contextlib.contextmanager
def soon(base: int) -> Iterator[Callable[[], None]]:
    """What :func:`userns_fd` opens, made beside other work; whoever wants it now calls what this gives.  Known already: nothing."""
    with _lock:
        known = base in _cache
    if known:
        yield lambda: None
        return
    with UserNamespace(base, apart=False) as made:
        yield lambda: _remember(base, made)


def _remember(base: int, made: UserNamespace) -> None:
    with _lock:
        if base not in _cache:
            _cache[base] = os.open(made.path(), os.O_RDONLY | os.O_CLOEXEC)


def userns_fd(base: int) -> int:
    """Root's, for mounts.  Cached for the process, never closed.  Raises OSError."""
    with soon(base) as wanted:
        wanted()
    with _lock:
        return _cache[base]
