"""What separates a container from the host, as /proc and the cgroup files say it."""

from __future__ import annotations

import functools
from pathlib import Path

from runtime.api import ContainerSpec, Image, IsolationReport, LayerMount, NamespaceIds
from runtime.engines.native import apparmor
from runtime.home import Home
from runtime.kernel import apparmor as kernel_apparmor
from runtime.kernel import cgroup, conntrack, namespaces
from runtime.kernel.mount import table_of
from runtime.kernel.process import status_of
from runtime.network import firewall
from runtime.storage import usage
from runtime.storage.snapshot import Snapshots

CAPABILITY_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE",
    "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""By bit, linux/capability.h."""

SECCOMP_FILTER = 2
COVERS = frozenset({"tmpfs", "devtmpfs"})
"""What a path is masked with: an empty folder, or the null device."""
UNCONFINED = "unconfined"
UNKNOWN = "The container was started when the node had no such profile."


def capabilities(mask: int) -> tuple[str, ...]:
    return tuple(f"CAP_{name}" for bit, name in enumerate(CAPABILITY_NAMES) if mask >> bit & 1)


@functools.cache
def _layer_size(folder: Path) -> int | None:
    """A layer never changes."""
    return usage.on_disk(folder)


def _together(*sizes: int | None) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _rows(pid: int, name: str) -> list[str]:
    """Of a file of the process."""
    return Path(f"/proc/{pid}/{name}").read_text(encoding="ascii").splitlines()


def _mounts(pid: int) -> list[str]:
    """What a tenant named may have any byte but an end of line, other ends of line among them."""
    return [row.decode("utf-8", "replace") for row in table_of(pid)]


def _uid_map(pid: int) -> tuple[tuple[int, int, int], ...]:
    numbers = [tuple(int(word) for word in row.split()) for row in _rows(pid, "uid_map")]
    return tuple((row[0], row[1], row[2]) for row in numbers)


def _paths(pid: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Masked and read-only ones below /proc and /sys (proc(5), mountinfo): point, its options, and the file system's kind."""
    masked, read_only = [], []
    for row in _mounts(pid):
        words = row.split(" ")
        point, options, kind = words[4], words[5].split(","), words[words.index("-") + 1]
        if not point.startswith(("/proc", "/sys")):
            continue
        if kind in COVERS and not point.startswith("/sys/fs/cgroup"):
            masked.append(point)
        elif "ro" in options:
            read_only.append(point)
    return tuple(sorted(masked)), tuple(sorted(read_only))


def _terminals(pid: int) -> int | None:
    """By the option of the file system that they are in (filesystems/devpts.rst)."""
    for row in _mounts(pid):
        words = row.split(" ")
        kind, _, options = words[words.index("-") + 1 :]
        if kind == "devpts" and words[4] == "/dev/pts":
            return next((int(one[4:]) for one in options.split(",") if one.startswith("max=")), None)
    return None


def report(
    home: Home, spec: ContainerSpec, image: Image, lowers: tuple[Path, ...], pid: int, address: str
) -> IsolationReport:
    """Raises ProcessLookupError or FileNotFoundError when the process ends meanwhile."""
    status = status_of(pid)
    seccomp = int(status.get("Seccomp", "0"))
    masked, read_only = _paths(pid)
    confined = kernel_apparmor.current(pid) if kernel_apparmor.enabled() else ""
    inside, outside = namespaces.inodes(pid), namespaces.inodes()
    group = cgroup.Cgroup(home.cgroup(spec.tenant, spec.id))
    upper = Snapshots(home).upper_size(spec.id)
    sizes = [(layer.diff_id, _layer_size(path)) for layer, path in zip(image.layers, lowers, strict=True)]
    layers = [LayerMount("lower", diff_id, size) for diff_id, size in sizes]
    layers += [LayerMount("upper", "", upper), LayerMount("merged", "", _together(upper, *(size for _, size in sizes)))]
    return IsolationReport(
        namespaces=tuple(NamespaceIds(kind, inode, outside[kind]) for kind, inode in sorted(inside.items())),
        uid_map=_uid_map(pid),
        cgroup=group.path,
        cgroup_version=cgroup.version(),
        cgroup_limits=group.limits(),
        layers=tuple(layers),
        capabilities=capabilities(int(status["CapBnd"], 16)),
        seccomp=seccomp == SECCOMP_FILTER,
        seccomp_mode=seccomp,
        no_new_privileges=status.get("NoNewPrivs") == "1",
        apparmor=confined,
        apparmor_missing="" if confined not in {"", UNCONFINED} else apparmor.profile()[1] or UNKNOWN,
        masked=masked,
        read_only=read_only,
        address=address,
        interface=home.veth(spec.id),
        flows=conntrack.begun_by(address) if address else None,
        flows_most=firewall.flows(home),
        terminals_most=_terminals(pid),
    )
