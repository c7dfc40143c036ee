"""From a spec, an image and a slot to an OCI runtime configuration (runtime-spec, config.md and config-linux.md).  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.api import ContainerSpec
from runtime.engines.native import etc, options
from runtime.engines.native.passwd import Identity
from runtime.errors import InvalidSpec
from runtime.kernel import limits
from runtime.validation_storage import path_parts

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/proc/interrupts", "/sys/firmware", "/sys/fs/selinux",
    "/sys/devices/virtual/powercap", "/sys/dev/block",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SHM_BYTES = 64 * 2**20
OPEN_FILES = 65536
TERMINALS = 32
"""Pseudo-terminals of one container.  All of a node's have 3,072 together (kernel.pty.max less its reserve), and nothing in the kernel
counts them by tenant: 24 containers that hold all of theirs leave three quarters to others.
"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IDS = 65536


@dataclass(frozen=True, slots=True)
class Host:
    """What the configuration takes from the node and the container's folder."""

    root: Path
    folder: Path
    """Holds ``hosts``, ``hostname`` and ``resolv.conf``."""
    cgroup: str
    uid_base: int
    cgroup_version: int
    seccomp: Mapping[str, Any]
    volumes: Path
    """Where they are mounted, numbered as in the spec."""
    open_files: int
    """A process in a user namespace cannot raise its hard limit above the one it was started with."""
    userns: Path | None = None
    """Where the container's user namespace is found while it is made; None: the runtime makes it."""
    init: Path | None = None
    """The node's init, for containers that have one."""
    ceiling_millis: int | None = None
    """The tenant's."""
    apparmor: str = ""
    """A profile that the kernel knows; empty: none."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Nobody reads them but ourselves."""


def command(spec: ContainerSpec, config: Mapping[str, Any]) -> list[str]:
    """Entrypoint and command, the image's where the spec gives none.  Raises InvalidSpec when both are empty.

    As with Docker, an entrypoint of one's own does away with the image's command.
    """
    entrypoint = list(spec.entrypoint if spec.entrypoint is not None else config.get("Entrypoint") or [])
    if spec.command is not None:
        arguments = list(spec.command)
    else:
        arguments = [] if spec.entrypoint is not None else list(config.get("Cmd") or [])
    if not entrypoint + arguments:
        raise InvalidSpec("The image says no command to run.", hint="Give a command.", field="command")
    return entrypoint + arguments


def environment(spec: ContainerSpec, config: Mapping[str, Any], home: str) -> list[str]:
    merged = {"PATH": PATH, "HOME": home, "HOSTNAME": hostname(spec)}
    if spec.terminal:
        merged["TERM"] = "xterm-256color"
    merged.update(dict(row.split("=", 1) for row in config.get("Env") or [] if "=" in row))
    merged.update(spec.env)
    return [f"{name}={value}" for name, value in merged.items()]


def hostname(spec: ContainerSpec) -> str:
    return spec.hostname or spec.name


def capabilities(uid: int, bounding: Sequence[str]) -> dict[str, list[str]]:
    """Of a process of this user: nobody but root has any."""
    own = list(bounding) if uid == 0 else []
    return {"bounding": list(bounding), "permitted": own, "effective": own}


def configuration(spec: ContainerSpec, config: Mapping[str, Any], identity: Identity, host: Host) -> dict[str, Any]:
    """The whole ``config.json``."""
    arguments = command(spec, config)
    init = host.init if options.has_init(spec, arguments) else None
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": spec.terminal,
            "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups), "umask": 0o022},
            "args": [options.INIT_PATH, "--", *arguments] if init else arguments,
            "env": environment(spec, config, identity.home),
            "cwd": spec.working_dir or config.get("WorkingDir") or "/",
            "capabilities": capabilities(identity.uid, options.capabilities(spec)),
            "noNewPrivileges": True,
            "rlimits": options.rlimits(spec, host.open_files),
            **({"apparmorProfile": host.apparmor} if host.apparmor else {}),
        },
        "root": {"path": str(host.root), "readonly": spec.read_only},
        "hostname": hostname(spec),
        "annotations": dict(host.annotations),
        "mounts": _mounts(spec, host, init),
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": host.uid_base, "size": IDS}],
            "gidMappings": [{"containerID": 0, "hostID": host.uid_base, "size": IDS}],
            "namespaces": [
                {"type": "user"} | ({"path": str(host.userns)} if host.userns else {}),
                *({"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")),
            ],
            "cgroupsPath": host.cgroup,
            "resources": resources(spec, host.cgroup_version, host.ceiling_millis),
            "sysctl": options.network_sysctls(spec),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
            "seccomp": host.seccomp,
        },
    }


def resources(spec: ContainerSpec, cgroup_version: int, ceiling_millis: int | None = None) -> dict[str, Any]:
    """Memory and swap, CPU time by quota and, under contention, by weight, processors, and pids; the disk's are written later.

    ``ceiling_millis``: the tenant's, which on version 1 no container may be above.
    """
    wanted = spec.limits
    memory: dict[str, Any] = {"limit": wanted.memory_bytes, "swap": wanted.memory_bytes + wanted.swap_bytes}
    if cgroup_version == 1 and not wanted.swap_bytes:
        memory["swappiness"] = 0
    weight = limits.cpu_weight(wanted)
    capped = ceiling_millis if cgroup_version == 1 and ceiling_millis else wanted.cpu_millis
    millis = min(wanted.cpu_millis, capped)
    cpu: dict[str, Any] = {"quota": limits.quota(millis), "period": limits.CPU_PERIOD_US}
    made: dict[str, Any] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": memory,
        "cpu": cpu,
        "pids": {"limit": wanted.pids},
    }
    if wanted.cpuset:
        cpu["cpus"] = wanted.cpuset
    if cgroup_version == 1:
        cpu["shares"] = limits.shares(weight)
    else:
        made["unified"] = {"cpu.weight": str(weight)}  # shares would be converted, by each runtime differently
    return made


def _mounts(spec: ContainerSpec, host: Host, init: Path | None) -> Sequence[dict[str, Any]]:
    def entry(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
        return {"destination": target, "type": kind, "source": source, "options": list(options)}

    safe = ("nosuid", "noexec", "nodev")
    files = [
        entry(
            f"/etc/{name}", "bind", str(host.folder / name), "rbind", "rprivate", *safe
        )  # at least what RUN's mount has
        for name in etc.FILES
    ]
    asked = [*options.memory_mounts(spec), *options.volume_mounts(spec, host.volumes)]
    asked.sort(key=lambda mount: path_parts(mount["destination"]))  # outer ones first
    mounts = [
        entry("/proc", "proc", "proc", *safe),
        entry("/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "mode=755", "size=64k"),
        entry(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
            f"max={TERMINALS}",
        ),
        entry("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", f"size={SHM_BYTES}"),  # noqa: S108 -- inside the container
        entry("/dev/mqueue", "mqueue", "mqueue", *safe),
        entry("/sys", "sysfs", "sysfs", *safe, "ro"),
        entry("/sys/fs/cgroup", "cgroup", "cgroup", *safe, "relatime", "ro"),
    ]
    own = {mount["destination"] for mount in asked}
    kept = [mount for mount in mounts if mount["destination"] not in own]
    return [*kept, *asked, *files, *([options.init_mount(init)] if init else [])]
