"""Conservation: whatever is looked at, however often, charges sum to the last value, and lie end to end."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from console.metering.measuring import COUNTERS, GONE, Measure, Seen
from console.metering.models import Meter, Quality

HOUR_US = 3_600_000_000
START_US = 1_795_000_000_000_000
LIMITS = {Meter.CPU_LIMIT: 1500, Meter.MEMORY_LIMIT: 1 << 20}
STEPS = st.tuples(
    st.integers(1, 2 * HOUR_US),  # boot time since the look before, in microseconds
    st.sampled_from([0, 0, 0, HOUR_US, -HOUR_US]),  # how far the wall clock was set in between
    st.dictionaries(st.sampled_from(list(COUNTERS)), st.none() | st.integers(0, 10**12)),
    st.none() | st.integers(0, 1 << 40),
)


def looks(steps: list[tuple[int, int, dict[Meter, int | None], int | None]]) -> list[Seen]:
    """Counters grow by what a step says; None: the kernel is silent at that look."""
    found, at, ns, values = [], START_US, 10**15, dict.fromkeys(COUNTERS, 0)
    for elapsed, set_by, grown, gauge in steps:
        at, ns = at + elapsed + set_by, ns + elapsed * 1000
        for meter, more in grown.items():
            values[meter] += more or 0
        silent = {meter for meter, more in grown.items() if more is None}
        said = {str(meter): None if meter in silent else values[meter] for meter in COUNTERS}
        found.append(Seen(at, ns, said, gauge))
    return found


@given(st.lists(STEPS, min_size=1, max_size=12), st.booleans())
def test_charges_sum_to_the_last_value_and_lie_end_to_end(
    steps: list[tuple[int, int, dict[Meter, int | None], int | None]], lost: bool
) -> None:
    found = looks(steps)
    measure = Measure(START_US, LIMITS)
    for seen in found[:-1]:
        measure.look(seen)
    if lost:
        measure.look(found[-1])
        measure.lose(found[-1].at_us + 5_000_000)
    else:
        measure.finish(found[-1])
    for meter in COUNTERS:
        known = [seen.values[meter] for seen in found if seen.values[meter] is not None]
        assert sum(one.quantity for one in measure.charges if one.meter is meter) == (known[-1] if known else 0)
    begin_ns = found[0].ns - max(0, found[0].at_us - START_US) * 1000
    for meter, rate in LIMITS.items():
        held = sum(one.quantity for one in measure.charges if one.meter is meter)
        assert held == rate * (found[-1].ns // 1000 - begin_ns // 1000)
    for meter in (*COUNTERS, *LIMITS, Meter.MEMORY_USED):
        mine = [one for one in measure.charges if one.meter is meter]
        assert mine, "each meter is charged or missing"
        assert mine[0].start.at_us == START_US
        for before, after in itertools.pairwise(mine):
            assert before.end.at_us == after.start.at_us
        assert all(one.quantity >= 0 and one.start.at_us <= one.end.at_us for one in mine)


@given(st.lists(STEPS, min_size=2, max_size=10), st.data())
def test_lost_looks_change_no_sum(
    steps: list[tuple[int, int, dict[Meter, int | None], int | None]], data: st.DataObject
) -> None:
    found = looks([(elapsed, 0, {k: v or 0 for k, v in grown.items()}, gauge) for elapsed, _, grown, gauge in steps])
    kept = [seen for seen in found[:-1] if data.draw(st.booleans())]
    sums = []
    for some in (found[:-1], kept):
        measure = Measure(START_US, LIMITS, started_ns=10**15)
        for seen in some:
            measure.look(seen)
        measure.finish(found[-1])
        exact = [one for one in measure.charges if one.meter is not Meter.MEMORY_USED]
        sums.append({meter: sum(one.quantity for one in exact if one.meter is meter) for meter in (*COUNTERS, *LIMITS)})
    assert sums[0] == sums[1]


def test_memory_over_a_time_that_nobody_saw_is_missing() -> None:
    measure = Measure(START_US, LIMITS)
    values = {str(meter): 0 for meter in COUNTERS}
    measure.look(Seen(START_US, 10**15, values, 1 << 20))
    measure.finish(Seen(START_US + 2 * HOUR_US, 10**15 + 2 * HOUR_US * 1000, values, 1 << 20))
    memory = [one for one in measure.charges if one.meter is Meter.MEMORY_USED]
    assert [(one.quantity, one.quality) for one in memory] == [(0, Quality.INTEGRATED), (0, Quality.MISSING)]


def test_a_look_within_the_hour_is_not_stored_and_one_past_it_stores_both() -> None:
    measure = Measure(START_US - START_US % HOUR_US, LIMITS)
    values = {str(meter): 5 for meter in COUNTERS}
    at, ns = measure.started_us, 10**15
    for minute in (0, 1, 2, 59, 61):
        measure.look(Seen(at + minute * 60_000_000, ns + minute * 60_000_000_000, values, 0))
    stored = sorted({one.at_us - at for one in measure.said})
    assert stored == [0, 59 * 60_000_000, 61 * 60_000_000]
    assert GONE not in {one.end.ns for one in measure.charges}


def test_a_final_reading_of_the_instant_of_the_last_look_counts() -> None:
    """Or of before it, by a boot clock that somebody read twice: what it says is what is billed."""
    for earlier in (0, 1):
        measure = Measure(START_US, LIMITS, started_ns=10**15)
        values = dict.fromkeys(map(str, COUNTERS), 7)
        measure.look(Seen(START_US + 60_000_000, 10**15 + 60 * 10**9, values, 1))
        measure.finish(Seen(START_US + 60_000_000, 10**15 + 60 * 10**9 - earlier, dict.fromkeys(values, 11), 1))
        for meter in COUNTERS:
            assert sum(one.quantity for one in measure.charges if one.meter is meter) == 11
        assert all(one.final for one in measure.said if one.sequence == measure.sequence)


def test_a_look_that_was_taken_behind_the_final_reading_is_no_step_back() -> None:
    """The kernel reports its groups on a network that the container has left, and that is not gone yet."""
    ended = {"cpu": 7, "net_tx": 0, "net_rx": 5, "block_read": 0, "block_write": 3}
    measure = Measure(START_US, {}, started_ns=10**15)
    measure.look(Seen(START_US + 20_000, 10**15 + 20_000_000, {**ended, "net_tx": 90, "net_rx": None}, 1))
    measure.finish(Seen(START_US + 15_000, 10**15 + 15_000_000, ended, 1))
    assert {one.reason for one in measure.said if one.final} == {""}
    last = {one.meter: one.value for one in measure.said if one.final}
    assert (last[Meter.NET_TX], last[Meter.NET_RX], last[Meter.CPU]) == (90, 5, 7)
    for meter in COUNTERS:
        assert sum(one.quantity for one in measure.charges if one.meter is meter) == last[meter]
