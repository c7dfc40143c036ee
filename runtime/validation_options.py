"""Refuse options that are outside the policy or make no sense, naming the field; :mod:`runtime.api.options` states the policy."""

from __future__ import annotations

import posixpath
import re
import resource

from runtime.api import ContainerSpec, Tmpfs, Ulimit
from runtime.api.options import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    GRANTABLE_CAPABILITIES,
    SYSCTL_FAMILIES,
    SYSCTLS,
    ULIMITS,
    UNLIMITED,
)
from runtime.errors import InvalidSpec, LimitExceeded

SYSCTL = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_-]+)+")
CAPABILITIES = {
    "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
    "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE",
    "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
}  # fmt: skip
"""Of Linux (capabilities(7)): one that is misspelt must not be kept where it was to be dropped."""
TEXT = re.compile(r"[^\x00-\x1f\x7f]*")
"""No control characters."""
SYSTEM_FOLDERS = ("/proc", "/sys", "/dev")
LEAST_TMPFS = 4096
MOST_MODE = 0o1777
LONGEST_LABEL = 128
MOST_LABELS_BYTES = 64 * 2**10


def capability(name: str) -> str:
    """``net_raw``, ``CAP_NET_RAW`` -> ``CAP_NET_RAW``."""
    upper = name.upper()
    return upper if upper == ALL_CAPABILITIES else "CAP_" + upper.removeprefix("CAP_")


def check_options(spec: ContainerSpec) -> None:
    """Raises InvalidSpec or LimitExceeded for the first thing that is wrong."""
    _check_labels(spec)
    _check_capabilities(spec)
    _check_sysctls(spec)
    for index, ulimit in enumerate(spec.ulimits):
        _check_ulimit(ulimit, f"ulimits[{index}]")
        if any(ulimit.name == other.name for other in spec.ulimits[:index]):
            raise InvalidSpec(
                f"The ulimit {ulimit.name} is given twice.", hint="Leave one out.", field=f"ulimits[{index}].name"
            )
    for index, tmpfs in enumerate(spec.tmpfs):
        _check_tmpfs(tmpfs, f"tmpfs[{index}]")
        if any(tmpfs.path == other.path for other in spec.tmpfs[:index]):
            raise InvalidSpec(
                f"Something is mounted at {tmpfs.path} already.", hint="Leave one out.", field=f"tmpfs[{index}].path"
            )
    if spec.init and spec.limits.pids < 2:
        raise InvalidSpec(
            "The init and the program are two processes.",
            hint="Raise the limit, or go without the init.",
            field="limits.pids",
        )


def _check_labels(spec: ContainerSpec) -> None:
    for name in spec.labels:
        if not name or len(name) > LONGEST_LABEL or not TEXT.fullmatch(name):
            raise InvalidSpec(
                f"{name[:LONGEST_LABEL]!r} is not a label's name.",
                hint="Use 1 to 128 characters, no control characters.",
                field="labels",
            )
    if sum(len(f"{name}{value}".encode(errors="replace")) for name, value in spec.labels.items()) > MOST_LABELS_BYTES:
        raise InvalidSpec("The labels are longer than 64 KiB together.", hint="Shorten them.", field="labels")


def _check_capabilities(spec: ContainerSpec) -> None:
    for field, names in (("capabilities_add", spec.capabilities_add), ("capabilities_drop", spec.capabilities_drop)):
        for name in names:
            full = capability(name)
            if full != ALL_CAPABILITIES and full.removeprefix("CAP_") not in CAPABILITIES:
                raise InvalidSpec(
                    f"{name!r} is not a capability.", hint="Use a name such as NET_RAW.", field=f"{field}.{name}"
                )
            if field == "capabilities_add" and full not in {*DEFAULT_CAPABILITIES, *GRANTABLE_CAPABILITIES}:
                raise InvalidSpec(
                    f"The capability {full} is not given to containers.",
                    hint="Only AUDIT_WRITE, MKNOD, NET_RAW and the usual ones can be added.",
                    field=f"{field}.{name}",
                )


def _check_sysctls(spec: ContainerSpec) -> None:
    for name, value in spec.sysctls.items():
        if not SYSCTL.fullmatch(name):
            raise InvalidSpec(
                f"{name[:LONGEST_LABEL]!r} is not a kernel setting.",
                hint="Write it with dots, such as net.core.somaxconn.",
                field=f"sysctls.{name}",
            )
        if name not in SYSCTLS and not name.startswith(SYSCTL_FAMILIES):
            raise InvalidSpec(
                f"The kernel setting {name} is the whole node's.",
                hint="Only net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* are a container's own.",
                field=f"sysctls.{name}",
            )
        if not value or not value.isascii() or not TEXT.fullmatch(value.replace("\t", " ")):
            raise InvalidSpec(
                f"The kernel setting {name} has no value that can be written.",
                hint="Give one line.",
                field=f"sysctls.{name}",
            )


def _check_ulimit(ulimit: Ulimit, field: str) -> None:
    if ulimit.name not in ULIMITS:
        raise InvalidSpec(
            f"There is no ulimit {ulimit.name!r} for containers.",
            hint=f"Choose one of {', '.join(ULIMITS)}.",
            field=f"{field}.name",
        )
    for value, part in ((ulimit.soft, "soft"), (ulimit.hard, "hard")):
        if value < UNLIMITED:
            raise InvalidSpec(
                f"{value} is not a ulimit.", hint="Use 0 or more, or -1 for no limit.", field=f"{field}.{part}"
            )
    if _amount(ulimit.soft) > _amount(ulimit.hard):
        raise InvalidSpec(
            f"The soft ulimit {ulimit.name} is above the hard one.", hint="Lower it.", field=f"{field}.soft"
        )
    most = resource.getrlimit(getattr(resource, f"RLIMIT_{ulimit.name.upper()}", _NUMBERS.get(ulimit.name, 0)))[1]
    if _amount(ulimit.hard) > _amount(most):
        raise LimitExceeded(
            f"The node itself has a ulimit {ulimit.name} of only {most}.",
            hint="Lower it.",
            field=f"{field}.hard",
            most=most,
        )


_NUMBERS = {"locks": 10, "sigpending": 11, "msgqueue": 12}
"""Those that Python has no name for: asm-generic/resource.h."""


def _amount(value: int) -> float:
    return float("inf") if value == UNLIMITED else value


def _check_tmpfs(tmpfs: Tmpfs, field: str) -> None:
    path = tmpfs.path
    if not path.startswith("/") or posixpath.normpath(path) != path or path in {"/", "//"} or not TEXT.fullmatch(path):
        raise InvalidSpec(
            f"{path!r} is not a folder that something can be mounted at.",
            hint="Give an absolute path without '..', such as /cache.",
            field=f"{field}.path",
        )
    if path != "/dev/shm" and any(path == top or path.startswith(f"{top}/") for top in SYSTEM_FOLDERS):  # noqa: S108 -- inside the container
        raise InvalidSpec(f"{path} is the system's own.", hint="Choose another folder.", field=f"{field}.path")
    if tmpfs.size_bytes < LEAST_TMPFS:
        raise InvalidSpec("The size is below 4 KiB.", hint="Raise it.", field=f"{field}.size_bytes")
    if not 0 <= tmpfs.mode <= MOST_MODE:
        raise InvalidSpec(
            "The mode is not one of a folder.", hint="Use one from 0 to 1777, octal.", field=f"{field}.mode"
        )
