"""The limits of a container over one epoch: what it began with and each change.  Pure: integers in, integers out.

The engine tells all changes of an epoch with every look; each is told apart by its boot time and learned once.  A change holds from
its own boot time on, but never from before the reading that the limits are charged up to: what is charged stays charged.  (That
happens only where a reading was taken while the change was being made, or by an agent that did not tell of changes yet.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from console.metering.models.usage import Meter
from runtime.api import ContainerStatus, Limits
from runtime.api import Size as EngineSize

KIB = 1024
METERS = (Meter.CPU_LIMIT, Meter.MEMORY_LIMIT)


@dataclass(frozen=True, slots=True)
class Size:
    """From an instant on."""

    told_ns: int
    """Boot time, as the engine told it."""
    ns: int
    """From which it is charged: the same or, see above, later."""
    at_us: int
    """Wall clock, microseconds since 1970: places it."""
    memory_bytes: int
    cpu_millis: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an interval in which one limit held.  ``end_us`` is None for the last: where the interval ends."""

    start_ns: int
    end_ns: int
    end_us: int | None
    rate: int
    """So much of the meter's unit each microsecond."""

    @property
    def quantity(self) -> int:
        """Of whole microseconds since the boot, so that the parts sum to the whole."""
        return self.rate * max(0, self.end_ns // 1000 - self.start_ns // 1000)


def rates(memory_bytes: int, cpu_millis: int) -> dict[Meter, int]:
    return {Meter.CPU_LIMIT: cpu_millis, Meter.MEMORY_LIMIT: memory_bytes // KIB}


def of_engine(limits: Limits, changes: Iterable[EngineSize]) -> list[Size]:
    """Those that change what is billed; of the others there is nothing to tell."""
    found: list[Size] = []
    before = (limits.memory_bytes, limits.cpu_millis)
    for one in changes:
        now = (one.limits.memory_bytes, one.limits.cpu_millis)
        if now != before:
            found.append(Size(one.boottime_ns, one.boottime_ns, round(one.at * 1_000_000), *now))
        before = now
    return found


def of_status(status: ContainerStatus) -> tuple[tuple[int, int], list[Size]]:
    """Memory and CPU that its epoch began with, and the changes since."""
    limits = status.limits_at_start
    return (limits.memory_bytes, limits.cpu_millis), of_engine(limits, status.sizes)


def learned(known: Sequence[Size], told: Iterable[Size], charged_ns: int) -> list[Size]:
    """``known`` and behind it what is new of ``told``; ``charged_ns``: the boot time up to which the limits are charged."""
    found = list(known)
    for one in sorted(told, key=lambda size: size.told_ns):
        if not found or one.told_ns > found[-1].told_ns:
            found.append(replace(one, ns=max(one.told_ns, charged_ns)))
    return found


def pieces(meter: Meter, first: int, sizes: Sequence[Size], start_ns: int, end_ns: int) -> Iterator[Piece]:
    """The interval's parts in order, at least one; ``first`` is the rate that the epoch began with."""
    rate, at = first, start_ns
    for size in sizes:
        if size.ns >= end_ns:
            break
        if size.ns > at:
            yield Piece(at, size.ns, size.at_us, rate)
            at = size.ns
        rate = rates(size.memory_bytes, size.cpu_millis)[meter]
    yield Piece(at, end_ns, None, rate)


# ------------------------------------------------------------------------------------------------ as JSON


def sizes_json(sizes: Iterable[Size]) -> list[list[int]]:
    return [[one.told_ns, one.ns, one.at_us, one.memory_bytes, one.cpu_millis] for one in sizes]


def sizes_of(found: Iterable[Sequence[int]]) -> list[Size]:
    return [Size(*one) for one in found]


def held(first: Mapping[Meter, int], sizes: Sequence[Size], meter: Meter, start_ns: int, end_ns: int) -> int:
    """What the limit makes of the interval: the sum of its pieces."""
    return sum(piece.quantity for piece in pieces(meter, first[meter], sizes, start_ns, end_ns))
