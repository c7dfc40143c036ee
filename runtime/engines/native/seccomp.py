"""The system-call filter: Debian's profile of the containers project, turned into the OCI runtime's form.

Only system calls of the node's own architecture are let through, not those of its older siblings (on amd64: i386 and x32).
Their entry points are the kernel's least trodden, an amd64 image has no use for them, and compiling the filter for all
three takes 22 ms of each start where one takes 4 (measured).

The profile is made for engines in which containers may run containers: it lets through what a user namespace of one's own needs.
Ours are not to have one: all capabilities within it open the kernel far wider than any service needs.  :func:`tightened` takes
that away, keyrings, which all containers of a tenant would share, and sockets that lead past the network, as AF_VSOCK does to the
machine that this one runs in.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.errors import HostUnfit

PROFILES = (Path("/usr/share/containers/seccomp.json"), Path("/etc/containers/seccomp.json"))
GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}
OCI_ARCHITECTURES = {
    "x86_64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "riscv64": "SCMP_ARCH_RISCV64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "s390x": "SCMP_ARCH_S390X",
}
CLONE_NEWUSER = 0x10000000
EPERM, EAFNOSUPPORT = 1, 97
"""asm-generic/errno.h."""
REFUSED = frozenset({
    "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root", "reboot", "setns",
    "syslog", "umount", "umount2",
})  # fmt: skip
"""As without the capability that they want, which no container has."""
ABSENT = frozenset({"clone3", "keyctl"})
"""As on a kernel without them.  clone3 has its flags in memory, where a filter does not see them; libraries go on with clone."""
FILTERED = frozenset({"clone", "socket", "unshare"})
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17
"""linux/socket.h: the families that a container has; the kernel asks for CAP_NET_RAW for the last."""
NETLINK_AUDIT = 9


@functools.cache
def profile(capabilities: frozenset[str]) -> Mapping[str, Any]:
    """The ``linux.seccomp`` object for a process that has at most these capabilities.  Raises HostUnfit."""
    path = next((path for path in PROFILES if path.is_file()), None)
    if path is None:
        raise HostUnfit(
            "The seccomp profile is missing, and containers are not started without one.",
            hint="Install the package golang-github-containers-common.",
        )
    machine = os.uname().machine
    return tightened(translate(json.loads(path.read_bytes()), machine, capabilities), machine, capabilities)


def translate(source: Mapping[str, Any], machine: str, capabilities: frozenset[str]) -> Mapping[str, Any]:
    """``source``: the containers format, whose rules hold under conditions on architecture and capabilities."""
    architecture = OCI_ARCHITECTURES[machine]
    rules = []
    for rule in source["syscalls"]:
        if _applies(rule, GO_ARCHITECTURES[machine], capabilities):
            kept = {
                key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key) not in (None, [])
            }
            rules.append(kept)
    result: dict[str, Any] = {
        "defaultAction": source["defaultAction"],
        "architectures": [architecture],
        "syscalls": rules,
    }
    if source.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = source["defaultErrnoRet"]
    return result


def _applies(rule: Mapping[str, Any], architecture: str, capabilities: frozenset[str]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if architecture in (excludes.get("arches") or []) or capabilities & set(excludes.get("caps") or []):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    return set(includes.get("caps") or []) <= capabilities


def tightened(profile: Mapping[str, Any], machine: str, capabilities: frozenset[str]) -> Mapping[str, Any]:
    """Without what containers of strangers have no use for, and with what replaces it."""
    taken = REFUSED | ABSENT | FILTERED
    kept = [rule | {"names": [name for name in rule["names"] if name not in taken]} for rule in profile["syscalls"]]
    refused: dict[str, Any] = {"names": sorted(REFUSED), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}
    rules = [*(rule for rule in kept if rule["names"]), refused, *_namespaces(machine), *_sockets(capabilities)]
    return {**profile, "syscalls": rules}


def _namespaces(machine: str) -> list[dict[str, Any]]:
    """clone and unshare but for a user namespace; other namespaces want a capability that nobody has."""
    rules = []
    for name, index in (("clone", 1 if machine == "s390x" else 0), ("unshare", 0)):
        for wanted, action in (
            (0, {"action": "SCMP_ACT_ALLOW"}),
            (CLONE_NEWUSER, {"action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}),
        ):
            flag = {"index": index, "value": CLONE_NEWUSER, "valueTwo": wanted, "op": "SCMP_CMP_MASKED_EQ"}
            rules.append({"names": [name], "args": [flag], **action})
    return rules


def _sockets(capabilities: frozenset[str]) -> list[dict[str, Any]]:
    def rule(family: int, *more: Mapping[str, Any], op: str = "SCMP_CMP_EQ", **action: Any) -> dict[str, Any]:
        return {"names": ["socket"], "args": [{"index": 0, "value": family, "op": op}, *more], **action}

    allowed = {"action": "SCMP_ACT_ALLOW"}
    no_audit = {"index": 2, "value": NETLINK_AUDIT, "op": "SCMP_CMP_NE"}
    netlink = rule(AF_NETLINK, *(() if "CAP_AUDIT_WRITE" in capabilities else (no_audit,)), **allowed)
    plain = [rule(family, **allowed) for family in (AF_UNIX, AF_INET, AF_INET6, AF_PACKET)]
    return [*plain, netlink, rule(AF_PACKET, op="SCMP_CMP_GT", action="SCMP_ACT_ERRNO", errnoRet=EAFNOSUPPORT)]
