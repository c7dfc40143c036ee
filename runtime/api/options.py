"""Options of a container that its tenant may choose within a policy: ulimits, capabilities, kernel settings, file systems in memory."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What a service that drops its privileges needs; no raw sockets (ping works by ping_group_range), no mknod, no audit."""

GRANTABLE_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW")
"""What may be added: each is checked against the container's own namespaces.  (No device can be made there, even so.)"""

ALL_CAPABILITIES = "ALL"
"""In ``capabilities_drop``: all that are not added."""

UNLIMITED = -1
"""A ulimit's value."""

ULIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nofile", "nproc", "rss", "sigpending", "stack",
)  # fmt: skip
"""Of getrlimit(2), in small letters and without RLIMIT_; those of scheduling (nice, rtprio, rttime) are not a tenant's to set."""

SYSCTLS = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
)
"""Those of the container's ipc namespace; besides them :data:`SYSCTL_FAMILIES`."""

SYSCTL_FAMILIES = ("fs.mqueue.", "net.")
"""Kernel settings that begin so are the ipc namespace's and the network namespace's."""


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A limit of each process.  In the units of getrlimit(2): bytes, seconds (cpu) or a count; :data:`UNLIMITED`."""

    name: str
    """One of :data:`ULIMITS`."""
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A file system in memory, empty at each start; what is in it counts as the container's memory."""

    path: str
    """Absolute.  ``/dev/shm`` is there anyhow, with 64 MiB; one given here takes its place."""
    size_bytes: int = 64 * 2**20
    mode: int = 0o1777
    executable: bool = False
    """Whether programs in it can be run; device nodes and set-user-id never count."""


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """One entry of ``ContainerSpec.volumes``."""

    volume: str
    """The volume's name; it is the container's tenant's and exists when the container is created."""
    path: str
    """In the container, absolute.  Made where it is missing; a symbolic link on the way never leads out of the container."""
    read_only: bool = False
