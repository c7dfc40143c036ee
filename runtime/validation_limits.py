"""Refuse limits of processors, weights, swap and the disk that cannot be, naming the field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import InvalidSpec, LimitExceeded

if TYPE_CHECKING:
    from runtime.api import Limits, TenantLimits

CPU_LIST = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", re.ASCII)
MOST_CPU_WEIGHT = 10_000
MOST_IO_WEIGHT = 1000
LEAST_BPS = 64 * 2**10
LEAST_IOPS = 10
MOST_BYTES = 2**62
ONLINE = Path("/sys/devices/system/cpu/online")


def processors(text: str) -> set[int]:
    """Of a list such as ``0-2,5``.  Raises ValueError."""
    if len(text) > 1000 or not CPU_LIST.fullmatch(text):
        raise ValueError(text)
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def check_shares(limits: Limits) -> None:
    """Raises InvalidSpec or LimitExceeded for the first thing that is wrong."""
    _check_cpuset(limits.cpuset)
    for weight, most, field in (
        (limits.cpu_weight, MOST_CPU_WEIGHT, "limits.cpu_weight"),
        (limits.io_weight, MOST_IO_WEIGHT, "limits.io_weight"),
    ):
        check_weight(weight, most, field)
    if not 0 <= limits.swap_bytes <= MOST_BYTES:
        raise InvalidSpec("The swap is not a number of bytes.", hint="Give 0 or more.", field="limits.swap_bytes")
    for value, least, field in (
        (limits.read_bps, LEAST_BPS, "limits.read_bps"),
        (limits.write_bps, LEAST_BPS, "limits.write_bps"),
        (limits.read_iops, LEAST_IOPS, "limits.read_iops"),
        (limits.write_iops, LEAST_IOPS, "limits.write_iops"),
    ):
        if value is not None and not least <= value <= MOST_BYTES:
            raise InvalidSpec(
                f"A disk cannot be limited to {value} a second.", hint=f"Give {least} or more.", field=field
            )


def check_weight(weight: int | None, most: int, field: str) -> None:
    if weight is not None and not 1 <= weight <= most:
        raise InvalidSpec(f"{weight} is not a weight.", hint=f"Weights go from 1 to {most}.", field=field)


def _check_cpuset(text: str) -> None:
    if not text:
        return
    try:
        asked = processors(text)
    except ValueError:
        raise InvalidSpec(
            f"{text[:100]!r} is not a list of processors.", hint="Write it as 0-2,5.", field="limits.cpuset"
        ) from None
    online = ONLINE.read_text(encoding="ascii").strip()
    lacking = asked - processors(online)
    if lacking or not asked:
        raise LimitExceeded(
            f"The node's processors are {online}; the list {text[:100]} has others, or none.",
            hint="Choose among them.",
            field="limits.cpuset",
        )


def check_tenant(limits: TenantLimits) -> None:
    """Raises InvalidSpec for the first thing that is wrong."""
    for value, least, field in (
        (limits.memory_bytes, 6 * 2**20, "memory_bytes"),
        (limits.cpu_millis, 10, "cpu_millis"),
        (limits.pids, 2, "pids"),
    ):
        if value is not None and not least <= value <= MOST_BYTES:
            raise InvalidSpec(f"A tenant cannot be limited to {value}.", hint=f"Give {least} or more.", field=field)
    check_weight(limits.cpu_weight, MOST_CPU_WEIGHT, "cpu_weight")
