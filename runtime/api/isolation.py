"""What separates a container from the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LayerMount:
    role: Literal["lower", "upper", "merged"]
    digest: str
    """diff_id of a lower layer; empty for upper and merged."""
    size: int | None
    """Bytes on disk.  None: it has too many files to count in a moment."""


@dataclass(frozen=True, slots=True)
class NamespaceIds:
    kind: str
    """cgroup, ipc, mnt, net, pid, user, uts (and time where the kernel has it)."""
    container: int
    """Inode number, as ``readlink /proc/PID/ns/KIND`` shows it."""
    host: int


@dataclass(frozen=True, slots=True)
class IsolationReport:
    """What separates this container from the host, as the kernel says it right now, not as it was asked for."""

    namespaces: tuple[NamespaceIds, ...]
    uid_map: tuple[tuple[int, int, int], ...]
    """(inside, outside, count) rows of /proc/PID/uid_map."""
    cgroup: str
    cgroup_version: Literal[1, 2]
    cgroup_limits: Mapping[str, str]
    """File name -> content, for example ``memory.max`` -> ``268435456``."""
    layers: tuple[LayerMount, ...]
    capabilities: tuple[str, ...]
    seccomp: bool
    no_new_privileges: bool
    apparmor: str = ""
    """Profile and mode of its first process, as ``slipway-1a2b3c4d (enforce)``; empty: none."""
    apparmor_missing: str = ""
    """Why there is none: a sentence."""
    seccomp_mode: int = 0
    """As seccomp(2) counts: 0 off, 1 strict, 2 a filter."""
    masked: tuple[str, ...] = ()
    """Paths of the kernel's file systems that something empty lies on."""
    read_only: tuple[str, ...] = ()
    """Paths of the kernel's file systems that cannot be written to."""
    address: str = ""
    interface: str = ""
    """The host's end of the veth pair."""
    flows: int | None = None
    """Connections that the node tracks now of those that ``address`` began; None: the kernel does not tell, or there is no address."""
    flows_most: int = 0
    """As many at once and no more, of each of its addresses; as many again that come to it."""
    terminals_most: int | None = None
    """Pseudo-terminals; None: as many as the node has."""
