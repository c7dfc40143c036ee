"""Limits that change while a container runs: what is charged is the sum of its parts, whichever looks were seen or lost."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from console.metering.measuring import COUNTERS, Measure, Seen
from console.metering.models import Meter
from console.metering.sizes import Size, held, learned, of_engine, rates, sizes_json, sizes_of
from runtime.api import Limits
from runtime.api import Size as EngineSize

START_US = 1_795_000_000_000_000
START_NS = 10**15
FIRST = (1 << 30, 1500)
GAPS = st.lists(st.integers(1, 3 * 3_600_000_000_000), min_size=1, max_size=8)
"""Nanoseconds between one event and the next."""
SIZES = st.tuples(st.integers(8 << 20, 1 << 40), st.integers(10, 64_000))


def seen(ns: int) -> Seen:
    return Seen(START_US + (ns - START_NS) // 1000, ns, {str(meter): 0 for meter in COUNTERS}, 0)


def size(ns: int, memory_bytes: int, cpu_millis: int) -> Size:
    return Size(ns, ns, START_US + (ns - START_NS) // 1000, memory_bytes, cpu_millis)


def by_hand(meter: Meter, sizes: list[Size], end_ns: int) -> int:
    """The limit at each instant, summed without any of the code under test: in whole microseconds of boot time."""
    edges = [START_NS, *(one.ns for one in sizes), end_ns]
    limits = [FIRST, *((one.memory_bytes, one.cpu_millis) for one in sizes)]
    total = 0
    for (memory, millis), (start, end) in zip(limits, itertools.pairwise(edges), strict=True):
        total += (millis if meter is Meter.CPU_LIMIT else memory // 1024) * (end // 1000 - start // 1000)
    return total


@given(GAPS, st.data())
def test_what_is_charged_is_the_sum_of_the_parts(gaps: list[int], data: st.DataObject) -> None:
    """Changes and looks in any order; each look tells of the changes before it, and any look but the last may be lost."""
    at, sizes = START_NS, []
    measure = Measure(START_US, rates(*FIRST), started_ns=START_NS)
    for gap in gaps:
        at += gap
        if data.draw(st.booleans()):
            sizes.append(size(at, *data.draw(SIZES)))
        elif data.draw(st.booleans()):
            measure.learn(sizes)
            measure.look(seen(at))
    end = at + 1_000_000
    measure.learn(sizes)  # the final reading tells of those that no look saw
    measure.finish(seen(end))
    for meter in rates(*FIRST):
        mine = [one for one in measure.charges if one.meter is meter]
        assert sum(one.quantity for one in mine) == by_hand(meter, sizes, end)
        assert mine[0].start.ns == START_NS
        for before, after in itertools.pairwise(mine):
            assert (before.end.ns, before.end.at_us) == (after.start.ns, after.start.at_us), "a hole or an overlap"
        assert {one.end.ns for one in mine} >= {one.ns for one in sizes}, "cut where the size changed"
        assert all(one.start.at_us <= one.end.at_us and one.start.sequence <= one.end.sequence for one in mine)


@given(GAPS, st.data())
def test_replays_and_lost_looks_change_no_sum(gaps: list[int], data: st.DataObject) -> None:
    instants = list(itertools.accumulate(gaps, initial=START_NS + 1))
    sizes = [size(ns + 1, *data.draw(SIZES)) for ns in instants[1:]]
    sums = []
    for kept in (instants, [ns for ns in instants if data.draw(st.booleans())]):
        measure = Measure(START_US, rates(*FIRST), started_ns=START_NS)
        for ns in kept:
            for _twice in range(2):
                measure.learn([one for one in sizes if one.ns < ns])
                measure.look(seen(ns))
                measure.learn([])  # an agent that tells of none takes none back
        measure.learn(sizes)
        measure.finish(seen(instants[-1] + 2))
        sums.append(
            {meter: sum(one.quantity for one in measure.charges if one.meter is meter) for meter in rates(*FIRST)}
        )
    assert sums[0] == sums[1]


def test_a_change_told_after_its_time_is_charged_from_the_reading_that_was_charged_to() -> None:
    late = size(START_NS + 5_000_000, 2 << 30, 3000)
    measure = Measure(START_US, rates(*FIRST), started_ns=START_NS)
    measure.look(seen(START_NS + 9_000_000))
    measure.learn([late])
    measure.finish(seen(START_NS + 10_000_000))
    (found,) = measure.sizes
    assert (found.told_ns, found.ns) == (START_NS + 5_000_000, START_NS + 9_000_000)
    charged = [one.quantity for one in measure.charges if one.meter is Meter.CPU_LIMIT]
    assert charged == [1500 * 9_000, 3000 * 1_000], "nothing twice, and nothing taken back"


def test_only_what_is_billed_is_told_and_survives_as_json() -> None:
    first = Limits(1 << 30, 1500)
    changes = [
        EngineSize(1.5, 10, Limits(1 << 30, 1500, pids=9)),
        EngineSize(2.5, 20, Limits(2 << 30, 1500, pids=9)),
        EngineSize(3.5, 30, Limits(2 << 30, 1500)),
        EngineSize(4.5, 40, Limits(1 << 30, 1500)),
    ]
    found = of_engine(first, changes)
    assert [(one.told_ns, one.at_us, one.memory_bytes) for one in found] == [
        (20, 2_500_000, 2 << 30),
        (40, 4_500_000, 1 << 30),
    ]
    assert sizes_of(sizes_json(found)) == found
    assert learned(found, found[:1], 99) == found
    assert held(rates(1 << 30, 1500), found, Meter.MEMORY_LIMIT, 0, 100_000) == (1 << 20) * 100
