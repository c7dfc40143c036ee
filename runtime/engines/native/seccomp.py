"""The system-call filter: Debian's profile of the containers project, turned into the OCI runtime's form.

Only system calls of the node's own architecture are let through, not those of its older siblings (on amd64: i386 and x32).
Their entry points are the kernel's least trodden, an amd64 image has no use for them, and compiling the filter for all
three takes 22 ms of each start where one takes 4 (measured).
"""

from __future__ import annotations

import functools
import json
import platform
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


@functools.cache
def profile(capabilities: frozenset[str]) -> Mapping[str, Any]:
    """The ``linux.seccomp`` object for a process that has at most these capabilities.  Raises HostUnfit."""
    path = next((path for path in PROFILES if path.is_file()), None)
    if path is None:
        raise HostUnfit(
            "The seccomp profile is missing, and containers are not started without one.",
            hint="Install the package golang-github-containers-common.",
        )
    return translate(json.loads(path.read_bytes()), platform.machine(), capabilities)


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
