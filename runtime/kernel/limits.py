"""Limits as values of cgroup files, for both versions, and changing them all or none (cgroup-v1/, cgroup-v2.rst).

A weight of 100 is the kernel's own of a cgroup that says nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.api import Limits
from runtime.kernel import disk
from runtime.kernel.cgroup import ACCOUNTING_GROUP, enable_block_accounting
from runtime.kernel.hierarchy import ROOT, version

CPU_PERIOD_US = 100_000
QUOTA = "cpu.cfs_quota_us"
LETTING_GO_S, LOOK_EVERY_S = 1.0, 0.005
"""A cgroup that was taken away counts among its parent's children until the kernel lets go of it, some 20 ms later, and no
parent's quota may be below a child's (EINVAL; __cfs_schedulable in kernel/sched/core.c)."""
SHARES_OF_100 = 1024
"""``cpu.shares`` of version 1 for a weight of 100."""
USUAL_WEIGHT = 100
SWAPPINESS = 60
PAGE = os.sysconf("SC_PAGE_SIZE")
UNLIMITED = "max"
THROTTLES_V1 = {
    "read_bps": "blkio.throttle.read_bps_device",
    "write_bps": "blkio.throttle.write_bps_device",
    "read_iops": "blkio.throttle.read_iops_device",
    "write_iops": "blkio.throttle.write_iops_device",
}
THROTTLES_V2 = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}
WEIGHT_FILES_V1 = ("blkio.bfq.weight", "blkio.weight")


@dataclass(frozen=True, slots=True)
class Setting:
    file: str
    """Its controller's hierarchy is told by its name on version 1."""
    value: str


ANY_PROCESSOR = Setting("cpuset.cpus", "")
SOCKETS = "memory.kmem.tcp.limit_in_bytes"
"""What waits in sockets, of UDP as of TCP.  Version 2 counts it as memory, version 1 apart and only where this is set."""
SOCKETS_SHARE = 4
"""A quarter of the container's memory: it comes on top."""


def cpu_weight(limits: Limits) -> int:
    return limits.cpu_weight or min(10_000, max(1, limits.cpu_millis // 10))


def shares(weight: int) -> int:
    """For version 1: from 2 on."""
    return max(2, weight * SHARES_OF_100 // USUAL_WEIGHT)


def quota(cpu_millis: int) -> int:
    """Microseconds in each period."""
    return cpu_millis * CPU_PERIOD_US // 1000


def of_container(limits: Limits, device: str | None, ceiling_millis: int | None = None) -> tuple[Setting, ...]:
    """``device`` as :func:`runtime.kernel.disk.carrying` gives it.  ``ceiling_millis``: the tenant's, which on version 1 no
    container may be above."""
    rows = _container_2(limits) if version() == 2 else _container_1(limits, ceiling_millis)
    return (*rows, *of_disk(limits, device))


def _container_1(limits: Limits, ceiling_millis: int | None) -> Iterator[Setting]:
    yield Setting("memory.limit_in_bytes", str(limits.memory_bytes))
    yield Setting("memory.memsw.limit_in_bytes", str(limits.memory_bytes + limits.swap_bytes))
    yield Setting("memory.swappiness", str(SWAPPINESS if limits.swap_bytes else 0))
    yield of_sockets(limits)
    yield Setting(QUOTA, str(quota(min(limits.cpu_millis, ceiling_millis or limits.cpu_millis))))
    yield Setting("cpu.shares", str(shares(cpu_weight(limits))))
    yield Setting("pids.max", str(limits.pids))
    yield Setting("cpuset.cpus", limits.cpuset)


def of_sockets(limits: Limits) -> Setting:
    """For version 1.  Without, one container's sockets take all that the node has for them (tcp_mem, udp_mem)."""
    return Setting(SOCKETS, str(limits.memory_bytes // SOCKETS_SHARE // PAGE * PAGE))


def _container_2(limits: Limits) -> Iterator[Setting]:
    yield Setting("memory.max", str(limits.memory_bytes))
    yield Setting("memory.swap.max", str(limits.swap_bytes))
    yield Setting("cpu.max", f"{quota(limits.cpu_millis)} {CPU_PERIOD_US}")
    yield Setting("cpu.weight", str(cpu_weight(limits)))
    yield Setting("pids.max", str(limits.pids))
    yield Setting("cpuset.cpus", limits.cpuset)


def of_disk(limits: Limits, device: str | None) -> tuple[Setting, ...]:
    """Nothing where no disk is named: then nothing of it was asked for."""
    if device is None:
        return ()
    if version() == 1:
        throttles = [
            Setting(file, f"{device} {getattr(limits, field) or 0}") for field, file in THROTTLES_V1.items()
        ]  # 0 takes a rule away
    else:
        rules = " ".join(f"{key}={getattr(limits, field) or UNLIMITED}" for field, key in THROTTLES_V2.items())
        throttles = [Setting("io.max", f"{device} {rules}")]
    file = weight_file()
    weight = str(limits.io_weight or USUAL_WEIGHT)
    return (*throttles, *([Setting(file, weight)] if file else []))


def weight_file() -> str | None:
    """The one that shares a disk by weight; None where the kernel has none."""
    if version() == 1:
        enable_block_accounting()
        example = ROOT / "blkio" / ACCOUNTING_GROUP
        return next((name for name in WEIGHT_FILES_V1 if (example / name).exists()), None)
    return next((name for name in ("io.bfq.weight", "io.weight") if any(ROOT.glob(f"*/{name}"))), None)


def shared_by_weight(device: str) -> bool:
    """Whether weights have an effect there: only under bfq or, on version 2, where io.cost is on."""
    if disk.scheduler(device) == "bfq":
        return True
    try:
        rows = (ROOT / "io.cost.qos").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return False
    return any(row.startswith(f"{device} enable=1") for row in rows)


def swap_counts() -> bool:
    """Whether this kernel limits swap."""
    if version() == 1:
        return (ROOT / "memory/memory.memsw.limit_in_bytes").exists()
    return any(ROOT.glob("*/memory.swap.max"))


def of_tenant(
    memory_bytes: int | None, cpu_millis: int | None, weight: int | None, pids: int | None
) -> tuple[Setting, ...]:
    """For the cgroup that a tenant's containers lie in; None is no ceiling, or the usual weight."""
    if version() == 2:
        time = f"{quota(cpu_millis) if cpu_millis else UNLIMITED} {CPU_PERIOD_US}"
        return (
            Setting("memory.max", str(memory_bytes or UNLIMITED)),
            Setting("cpu.max", time),
            Setting("cpu.weight", str(weight or USUAL_WEIGHT)),
            Setting("pids.max", str(pids or UNLIMITED)),
        )
    return (
        Setting("memory.limit_in_bytes", str(memory_bytes or -1)),
        Setting(QUOTA, str(quota(cpu_millis) if cpu_millis else -1)),
        Setting("cpu.shares", str(shares(weight or USUAL_WEIGHT))),
        Setting("pids.max", str(pids or UNLIMITED)),
    )


# ------------------------------------------------------------------------------------------------ writing


def change(group: str, wanted: Sequence[Setting], before: Sequence[Setting] = ()) -> None:
    """Write what is not as ``before`` into the cgroup's files.  Raises OSError; then all is as it was before."""
    try:
        _write_all(group, wanted, before)
    except OSError:
        with contextlib.suppress(OSError):
            _write_all(group, before, wanted)
        raise


def differs(group: str, wanted: Sequence[Setting]) -> bool:
    """Whether one of the cgroup's files says something else."""
    return any(_read(group, setting.file) != _as_read(setting) for setting in wanted)


def _read(group: str, file: str) -> str:
    return (_folder(group, file) / file).read_text(encoding="ascii").strip()


def _as_read(setting: Setting) -> str:
    """What the kernel shows once it was written."""
    if setting.file == "memory.limit_in_bytes" and setting.value == "-1":
        return str(2**63 // PAGE * PAGE - PAGE)
    if setting.file.startswith("memory.") and setting.value.isdigit():
        return str(int(setting.value) // PAGE * PAGE)
    return setting.value


def _write_all(group: str, wanted: Sequence[Setting], before: Sequence[Setting]) -> None:
    for setting in _in_order(wanted, before):
        if setting not in before:
            _write(group, setting)


def _in_order(wanted: Sequence[Setting], before: Sequence[Setting]) -> list[Setting]:
    """Memory and swap together are at any time at least the memory: raised before it, lowered after it."""
    both = {one.file: int(one.value) for one in wanted if one.file == "memory.memsw.limit_in_bytes"}
    now = {one.file: int(one.value) for one in before if one.file in both}
    first = [name for name, value in both.items() if value > now.get(name, 0)]
    return sorted(wanted, key=lambda one: one.file not in first)


def _write(group: str, setting: Setting) -> None:
    folder = _folder(group, setting.file)
    try:
        value = _all_processors(folder.parent) if setting == ANY_PROCESSOR else setting.value
        _write_file(folder / setting.file, value + "\n")
    except FileNotFoundError:
        if not optional(setting):
            raise


def _write_file(file: Path, text: str) -> None:
    deadline = time.monotonic() + LETTING_GO_S
    while True:
        try:
            file.write_text(text, encoding="ascii")
        except OSError as error:
            if error.errno != errno.EINVAL or file.name != QUOTA or time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY_S)
        else:
            return


def _all_processors(parent: Path) -> str:
    """Neither version lets a cgroup with processes have an empty list again (ENOSPC; validate_change in kernel/cgroup/cpuset.c)."""
    file = "cpuset.cpus.effective" if version() == 2 else "cpuset.cpus"
    return (parent / file).read_text(encoding="ascii").strip()


def optional(setting: Setting) -> bool:
    """What a kernel may lack as long as nobody asks for it: limits of swap and processors, where these say only 'none'."""
    return (
        setting.file
        in {
            "memory.memsw.limit_in_bytes",
            "memory.swappiness",
            SOCKETS,
            "memory.swap.max",
        }
        or setting == ANY_PROCESSOR
    )


def _folder(group: str, file: str) -> Path:
    return (ROOT if version() == 2 else ROOT / file.partition(".")[0]) / group.lstrip("/")


def too_low(error: OSError) -> bool:
    """Whether the kernel refused a limit of memory because more is in use."""
    return error.errno == errno.EBUSY
