"""An open month's rating that is carried on: the same as one of the whole, and what is settled stays."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from console.accounts.models import Tenant
from console.core.errors import NotAllowed
from console.metering import services
from console.metering.models import CostDay, CostMonth, Period, RatedLine, RatingRun
from console.metering.rating import Line
from console.metering.selectors.hours import used_hours
from console.metering.services import costs, cycle, periods, rating, tally
from console.metering.services.prices import PriceDraft
from console.metering.services.rating import FIELDS, RESULTS, carry_on, rate_period
from console.metering.spans import DAY
from console.metering.splitting import HOUR
from console.workloads.models import Container
from tests.console.test_metering import START, final
from tests.console.test_metering import at as counters
from tests.console.test_metering_bills import CPU, MEMORY, MONTH, NEXT, OUT, cost, period, published, use
from tests.console.test_metering_explorer import made
from tests.console.test_metering_ingest import killed, observed
from tests.console.test_metering_worlds import BEGIN, World

pytestmark = pytest.mark.django_db
HOURS = 30
"""Over the edge of a day, and through the included amount and a tier."""
TINY = PriceDraft("MEM", "memory_limit", "GiB-Seconds", (("0", "0.000000000037"),))


@pytest.fixture
def several(tenant: Tenant) -> list[Container]:
    return [made(tenant, f"c{number}") for number in range(3)]


def looked_at(several: list[Container], hour: int) -> dt.datetime:
    """Each of them, a little past so many hours; returns that moment.  Not all use something in each hour."""
    seconds = hour * 3600 + 25
    services.take([
        observed(one, seconds + number, cpu_ns=hour * (61 + number) * 10**9 + hour, net_tx_bytes=hour // (number + 1) * 10**8)
        for number, one in enumerate(several)
    ])  # fmt: skip
    return START + dt.timedelta(seconds=seconds + 60)


def told(run: RatingRun) -> dict[str, Any]:
    """All that there is of it, but for whose it is."""
    names = [name for name in FIELDS if name != "run_id"]
    days = CostDay.objects.filter(run=run).order_by("day", "resource", "meter")
    months = CostMonth.objects.filter(run=run).order_by("month", "resource", "meter")
    run.refresh_from_db()
    return {
        "lines": list(run.lines.order_by("number").values_list(*names)),
        "days": list(days.values_list("day", "resource", "meter", "whole", "rest", "nanos")),
        "months": list(months.values_list("month", "resource", "meter", "nanos")),
        **{name: getattr(run, name) for name in RESULTS},
    }


def settled_lines(run: RatingRun) -> list[int]:
    return list(run.lines.filter(number__lte=run.settled["lines"]).order_by("number").values_list("pk", flat=True))


def test_each_hour_s_is_the_same_as_the_whole_s(several: list[Container]) -> None:
    published(CPU, TINY, OUT)
    looked_at(several, 0)
    run = rate_period(period().pk, looked_at(several, 1))
    for hour in range(2, HOURS):
        as_of = looked_at(several, hour)
        kept = settled_lines(run)
        carried = carry_on(period().pk, as_of)
        assert carried.pk == run.pk, "it is the same run"
        assert settled_lines(carried)[: len(kept)] == kept, "its settled lines stay"
        run, found = carried, told(carried)
        assert RatingRun.objects.count() == 1
        assert RatedLine.objects.count() == run.lines_count
    assert len(kept) > run.lines_count * 0.8
    assert {line[FIELDS.index("tier") - 1] for line in found["lines"]} > {"i/i", "0/0"}
    assert run.total == cost(run)
    assert sum(day[-1] for day in found["days"]) == round(run.total * 10**9)
    assert told(rate_period(period().pk, as_of)) == found


def test_the_hash_is_of_all_lines(tenant: Tenant) -> None:
    """Of one run alone: a test that compares two does not see what both leave out."""
    one = made(tenant, "one")
    published(CPU, MEMORY)
    services.take([observed(one, hour * 3600 + 25, cpu_ns=hour * 10**12) for hour in range(5)])
    run = rate_period(period().pk)
    before = run.sha256
    lines = [costs.line(stored) for stored in run.lines.order_by("number")]
    for number in range(len(lines)):
        changed = [*lines]
        changed[number] = replace(lines[number], quantity=lines[number].quantity + 1)
        assert chained(changed) != chained(lines)
    assert chained(lines) == before


def chained(lines: list[Line]) -> str:
    found = tally.Tally()
    for _, hour in itertools.groupby(lines, key=lambda line: line.window):
        for _part in found.link([list(hour)]):
            continue
    return found.sha256


def test_after_a_pause_of_hours_it_is_carried_on_as_well(several: list[Container]) -> None:
    published(CPU, MEMORY, OUT)
    run = carry_on(period_of(several), START + HOUR)
    for hour in range(2, 9):
        as_of = looked_at(several, hour)
    assert carry_on(period().pk, as_of).pk == run.pk
    assert told(run) == told(rate_period(period().pk, as_of))


def period_of(several: list[Container]) -> int:
    looked_at(several, 0)
    looked_at(several, 1)
    return period().pk


def test_nothing_new_changes_nothing(several: list[Container]) -> None:
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    before = told(rate_period(chosen, START + 2 * HOUR))
    assert told(carry_on(chosen, START + 2 * HOUR)) == before


def late(several: list[Container]) -> None:
    use(several[0], epoch=2)


def new_book(_several: list[Container]) -> None:
    published(
        PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.5"),)),
        MEMORY,
        OUT,
        valid_from=START.replace(minute=0, second=0),
    )


@pytest.mark.parametrize("change", [late, new_book])
def test_what_changes_a_settled_hour_has_the_whole_rated_anew(
    several: list[Container], change: Callable[[list[Container]], None]
) -> None:
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    before = rate_period(chosen, START + 9 * HOUR)
    change(several)
    carried = carry_on(chosen, START + 9 * HOUR)
    assert carried.pk != before.pk
    assert carried.total != before.total
    assert period().run == carried
    assert told(carried) == told(rate_period(chosen, START + 9 * HOUR))


def test_other_rules_have_the_whole_rated_anew(several: list[Container], monkeypatch: pytest.MonkeyPatch) -> None:
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    before = rate_period(chosen, START + 9 * HOUR)
    monkeypatch.setattr(rating, "RULES", tally.RULES + 1)
    assert carry_on(chosen, START + 9 * HOUR).pk != before.pk


def test_a_rating_from_before_there_was_a_place_is_made_anew(several: list[Container]) -> None:
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    before = rate_period(chosen, START + 2 * HOUR)
    RatingRun.objects.update(settled={})
    again = carry_on(chosen, START + 2 * HOUR)
    assert again.pk != before.pk
    assert again.settled


def test_a_clock_that_was_set_back_does_no_harm(several: list[Container]) -> None:
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    run = rate_period(chosen, START + 9 * HOUR)
    for as_of in (START + HOUR, START + 12 * HOUR):
        assert carry_on(chosen, as_of).pk == run.pk
    late(several)
    as_of = looked_at(several, 10)
    assert told(carry_on(chosen, as_of)) == told(rate_period(chosen, as_of))


def test_corrections_of_the_month_before_come_and_stay_last(container: Container, several: list[Container]) -> None:
    published(CPU, MEMORY, OUT)
    use(container)
    periods.close(period().pk, NEXT)
    start = round((NEXT - START) / HOUR)
    for hour in range(start, start + 3):
        as_of = looked_at(several, hour)
    run = carry_on(period(NEXT).pk, as_of)
    assert told(run) == told(rate_period(period(NEXT).pk, as_of))
    run = RatingRun.objects.get(current_of=period(NEXT))
    use(container, epoch=2)
    as_of = looked_at(several, start + 3)
    assert carry_on(period(NEXT).pk, as_of).pk == run.pk, "what is late is none of the month's own hours"
    use(container, epoch=3, cpu=10**12)
    as_of = looked_at(several, start + 4)
    assert carry_on(period(NEXT).pk, as_of).pk == run.pk
    found = told(run)
    assert [line[-1] for line in found["lines"]] == sorted(line[-1] for line in found["lines"])
    assert found["lines"][-1][-1], "corrections are last"
    assert {month[0] for month in found["months"]} == {MONTH, NEXT}
    assert told(rate_period(period(NEXT).pk, as_of)) == found


def test_an_earlier_month_is_rated_anew_only_where_something_late_has_come(
    container: Container, several: list[Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    published(CPU, MEMORY, OUT)
    use(container)
    periods.close(period().pk, NEXT)
    use(container, epoch=2)
    chosen, start, made = period(NEXT).pk, round((NEXT - START) / HOUR), list[int]()
    rate_period(chosen, looked_at(several, start))
    late = rating.corrections
    monkeypatch.setattr(rating, "corrections", lambda *of: made.append(1) or late(*of))
    for hour in range(start + 1, start + 4):
        run = carry_on(chosen, as_of := looked_at(several, hour))
    assert run.lines.filter(correction=True).exists()
    assert not made
    found = told(run)
    assert told(rate_period(chosen, as_of)) == found
    made.clear()
    use(container, epoch=3)
    run = carry_on(chosen, as_of)
    assert made
    assert run.pk == period(NEXT).run_id
    found = told(run)
    assert told(rate_period(chosen, as_of)) == found


def test_corrections_are_made_anew_while_an_earlier_month_is_open(
    container: Container, several: list[Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is late is billed in that one, and its closing may change what is left for the one after."""
    published(CPU, MEMORY, OUT)
    use(container)
    looked_at(several, round((NEXT - START) / HOUR))
    chosen, made = period(NEXT).pk, list[int]()
    run = rate_period(chosen, NEXT)
    assert not run.settled["late"]
    late = rating.corrections
    monkeypatch.setattr(rating, "corrections", lambda *of: made.append(1) or late(*of))
    assert carry_on(chosen, NEXT + HOUR).pk == run.pk
    assert made


def test_a_correction_that_is_none_any_more_leaves_no_sum(several: list[Container]) -> None:
    """By what is late another's usage comes to the second tier, then to the third, which costs what the first does."""
    published(PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "1"), ("100", "2"), ("300", "1"))))
    known, *late = several
    services.take([observed(known, 7260)])
    services.ingest_final(final(known, counters(7560, cpu_ns=50 * 10**9)))
    periods.close(period().pk, NEXT)
    services.ingest_final(final(late[0], counters(60, cpu_ns=120 * 10**9)))
    chosen = period(NEXT).pk
    run = carry_on(chosen, NEXT + HOUR)
    assert run.lines.filter(quantity="0", cost="50").count() == 1
    services.ingest_final(final(late[1], counters(60, cpu_ns=200 * 10**9)))
    assert carry_on(chosen, NEXT + HOUR).pk == run.pk
    found = told(run)
    assert not run.lines.filter(quantity="0").exists()
    assert told(rate_period(chosen, NEXT + HOUR)) == found


@pytest.mark.django_db(transaction=True)
def test_a_kill_while_it_is_carried_on_loses_and_doubles_nothing(several: list[Container]) -> None:
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    before = told(rate_period(chosen, START + 2 * HOUR))
    as_of = looked_at(several, 5)
    killed(lambda: carry_on(chosen, as_of), "rating.written")
    run = period().run
    assert run is not None
    assert told(run) == before, "what was written counts nowhere"
    carried = told(carry_on(chosen, as_of))
    RatingRun.objects.filter(sha256="").update(created_at=START - dt.timedelta(days=9))
    rating.forget_cut_short()
    assert RatingRun.objects.count() == 1
    assert carried == told(rate_period(chosen, as_of))
    for model in (RatedLine, CostDay, CostMonth):
        assert not model.objects.exclude(run=period().run).exists()


def by_the_whole(chosen: int, as_of: dt.datetime) -> None:
    rate_period(chosen, as_of)


def by_another(chosen: int, as_of: dt.datetime) -> None:
    carry_on(chosen, as_of)


@pytest.mark.parametrize("meanwhile", [by_the_whole, by_another])
def test_whoever_is_overtaken_leaves_what_the_other_rated(
    several: list[Container], monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[int, dt.datetime], None]
) -> None:
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    rate_period(chosen, START + 2 * HOUR)
    as_of, passed = looked_at(several, 5), list[str]()

    def reached(point: str) -> None:
        if not passed:
            passed.append(point)
            meanwhile(chosen, looked_at(several, 6))

    monkeypatch.setattr(rating, "failpoint", reached)
    run = carry_on(chosen, as_of)
    assert passed == ["rating.written"]
    assert run == period().run
    found = told(run)
    assert found == told(rate_period(chosen, looked_at(several, 6)))
    for model in (RatedLine, CostDay, CostMonth):
        assert not model.objects.exclude(run=period().run).exists()


def test_whoever_is_overtaken_by_one_that_has_read_less_goes_on_from_there(
    several: list[Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked may write down next what is known: then it has to be priced."""
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    rate_period(chosen, START + 2 * HOUR)
    as_of, passed = looked_at(several, 5), list[str]()

    def reached(point: str) -> None:
        passed.append(point)
        if len(passed) == 1:
            with monkeypatch.context() as earlier:
                earlier.setattr(rating, "used_hours", lambda *asked: [*used_hours(*asked)][:-1])
                carry_on(chosen, as_of)

    monkeypatch.setattr(rating, "failpoint", reached)
    run = carry_on(chosen, as_of)
    assert len(passed) == 3
    assert told(run) == told(rate_period(chosen, as_of))


def test_whoever_is_overtaken_by_the_closing_changes_no_invoice(
    several: list[Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    published(CPU, MEMORY, OUT)
    chosen = period_of(several)
    for one in several:
        use(one)
    rate_period(chosen, START + 9 * HOUR)
    monkeypatch.setattr(rating, "failpoint", lambda _point: periods.close(chosen, NEXT))
    with pytest.raises(NotAllowed):
        carry_on(chosen, START + 9 * HOUR)
    run = period().run
    assert run is not None
    assert period().invoice.charges == run.total == cost(run)
    for model in (RatedLine, CostDay, CostMonth):
        assert not model.objects.exclude(run=run).exists()


def test_the_schedule_carries_on_and_closes_by_the_whole(
    several: list[Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    published(CPU, MEMORY, OUT)
    as_of = dt.datetime.now(dt.UTC)
    chosen = period_of(several)
    cycle.turn(as_of)
    run = period().run
    assert run is not None
    RatingRun.objects.update(created_at=as_of - 2 * HOUR)
    cycle.turn(as_of)
    run.refresh_from_db()
    assert period().run == run
    assert run.created_at > as_of - HOUR
    for one in several:
        use(one)
    monkeypatch.setattr(rating, "carry_on", None)
    whole: list[int] = []
    monkeypatch.setattr(periods, "rate_period", lambda id: whole.append(id) or rate_period(id))
    periods.close(chosen, NEXT)
    assert whole == [chosen]


@pytest.mark.parametrize("seed", range(2))
def test_on_each_day_of_a_random_world_it_is_the_same_as_the_whole_s(tenant: Tenant, seed: int) -> None:
    """Books of other tiers in the midst of months, late readings, corrections, names, closings."""
    world = World(random.Random(seed), [tenant, Tenant.objects.create(name="Other", slug="other")])
    carried: list[bool] = []

    def check(as_of: dt.datetime) -> None:
        for one in Period.objects.filter(state=Period.State.OPEN, run__isnull=False).order_by("pk"):
            run = carry_on(one.pk, as_of)
            carried.append(run.pk == one.run_id)
            found = told(run)
            again = rate_period(one.pk, as_of)
            assert told(again) == found

    for number in range(60):
        world.at(BEGIN + number * DAY, lambda as_of=BEGIN + number * DAY: check(as_of))  # type: ignore[misc]
    world.live()
    assert sum(carried) > 20
    assert not all(carried)
