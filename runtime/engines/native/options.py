"""A container's options in the words of the OCI runtime configuration (runtime-spec, config.md and config-linux.md).  Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.api import ContainerSpec, Tmpfs, VolumeMount
from runtime.api.options import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, UNLIMITED
from runtime.validation_options import capability
from runtime.validation_storage import path_parts

INIT_PATH = "/dev/init"
"""In the container: on the file system that is its own anyhow, so no layer gets a file for it."""
INITS = frozenset({"catatonit", "docker-init", "dumb-init", "init", "s6-svscan", "systemd", "tini", "tini-static"})
"""Programs that are an init themselves; some work only as the first process."""
INFINITY = 2**64 - 1
"""RLIM_INFINITY."""
SHM = "/dev/shm"  # noqa: S108 -- inside the container
WRITABLE = ("/run", "/tmp", "/var/tmp")  # noqa: S108 -- inside the container
"""What nearly every program writes to, in memory where the root is read-only."""
NETWORK = "net."
"""How the kernel settings of a network namespace begin; the others are the ipc namespace's."""
DEFAULT_SYSCTLS = {"net.ipv4.ping_group_range": "0 65535", "net.ipv4.ip_unprivileged_port_start": "0"}


def capabilities(spec: ContainerSpec) -> list[str]:
    """The bounding set: the usual ones less what is dropped, and what is added."""
    dropped = {capability(name) for name in spec.capabilities_drop}
    kept = set() if ALL_CAPABILITIES in dropped else set(DEFAULT_CAPABILITIES) - dropped
    return sorted(kept | {capability(name) for name in spec.capabilities_add})


def rlimits(spec: ContainerSpec, open_files: int) -> list[dict[str, Any]]:
    """``open_files``: for a spec that says nothing of them."""
    wanted = {ulimit.name: (ulimit.soft, ulimit.hard) for ulimit in spec.ulimits}
    wanted.setdefault("nofile", (open_files, open_files))
    return [
        {"type": f"RLIMIT_{name.upper()}", "soft": _amount(soft), "hard": _amount(hard)}
        for name, (soft, hard) in wanted.items()
    ]


def _amount(value: int) -> int:
    return INFINITY if value == UNLIMITED else value


def network_sysctls(spec: ContainerSpec) -> dict[str, str]:
    """Which the OCI runtime sets."""
    return {**DEFAULT_SYSCTLS, **{name: value for name, value in spec.sysctls.items() if name.startswith(NETWORK)}}


def ipc_sysctls(spec: ContainerSpec) -> dict[str, str]:
    """Which we set: before Linux 6.9 the container's own root may not, and it is the one that the OCI runtime is by then."""
    return {name: value for name, value in spec.sysctls.items() if not name.startswith(NETWORK)}


def has_init(spec: ContainerSpec, command: Sequence[str]) -> bool:
    """Whether the command runs under our init."""
    return spec.init and command[0].rsplit("/", 1)[-1] not in INITS


def init_mount(program: Path) -> dict[str, Any]:
    """``program``: the node's, from whose file it is run."""
    return {
        "destination": INIT_PATH,
        "type": "bind",
        "source": str(program),
        "options": ["bind", "ro", "nosuid", "nodev"],
    }


def memory_mounts(spec: ContainerSpec) -> list[dict[str, Any]]:
    """File systems in memory: those asked for, and those that a read-only root needs.  Outer ones first."""
    asked = {tmpfs.path: _tmpfs(tmpfs) for tmpfs in spec.tmpfs}
    if spec.read_only:
        size = spec.limits.memory_bytes // 2
        volumes = {posixpath.normpath(volume.path) for volume in spec.volumes}
        for path in sorted(set(WRITABLE) - volumes):
            asked.setdefault(path, _tmpfs(Tmpfs(path, size, 0o755 if path == "/run" else 0o1777), "tmpcopyup"))
    return [asked[path] for path in sorted(asked)]


def _tmpfs(tmpfs: Tmpfs, *more: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", f"mode={tmpfs.mode:o}", f"size={tmpfs.size_bytes}", *more]
    return {
        "destination": tmpfs.path,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": options if tmpfs.executable else ["noexec", *options],
    }


def volume_mounts(spec: ContainerSpec, folder: Path) -> list[dict[str, Any]]:
    """For the bundle's ``mounts``; the runtime resolves each destination in the container's root."""
    return [_entry(folder / str(number), wanted) for number, wanted in enumerate(spec.volumes)]


def _entry(source: Path, wanted: VolumeMount) -> dict[str, Any]:
    options = ["rbind", "rprivate", "nosuid", "nodev", *(["ro"] if wanted.read_only else [])]
    return {
        "destination": "/" + "/".join(path_parts(wanted.path)),
        "type": "bind",
        "source": str(source),
        "options": options,
    }
