"""Usage that comes when the months behind it are closed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from console.metering import services
from console.metering.exports import bundle
from console.metering.exports.focus_check import faults
from console.metering.models import Invoice, MeterEpoch, Period, RatedLine, UsageRecord
from console.metering.rating import Line, Used
from console.metering.selectors.breakdown import COST, Asked, breakdown
from console.metering.services import corrections, credits, periods
from console.metering.services.prices import PriceDraft
from console.metering.services.rating import rate_period
from console.metering.spans import DAY, Span, day_of
from console.metering.splitting import HOUR
from console.metering.units import total
from console.workloads.models import Container
from tests.console.test_metering import START, at, final
from tests.console.test_metering_bills import CPU, LATER, MEMORY, MONTH, NEXT, OUT, cost, period, published, use
from tests.console.test_metering_exports import changed, consistent, differences
from tests.console.test_metering_ingest import observed

pytestmark = pytest.mark.django_db
OCTOBER = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
FEBRUARY, MARCH = dt.datetime(2027, 2, 1, tzinfo=dt.UTC), dt.datetime(2027, 3, 1, tzinfo=dt.UTC)


def written(starts_at: dt.datetime, folder: Path) -> Path:
    bundle.write(period(starts_at), folder / f"{starts_at:%Y-%m}")
    return folder / f"{starts_at:%Y-%m}"


def test_a_month_that_is_corrected_twice_nets_to_the_recomputed_total(container: Container, tmp_path: Path) -> None:
    """Over the edges of tiers, by the bill's own sums and by verify-bill's."""
    published(CPU, MEMORY, OUT)
    made = []
    for epoch, (month, end) in enumerate(((MONTH, NEXT), (NEXT, LATER), (LATER, FEBRUARY)), 1):
        use(container, epoch=epoch, cpu=10**12 * (4 - epoch), sent=10**9)
        made.append(periods.close(period(month).pk, end))
    folders = [written(month, tmp_path) for month in (MONTH, NEXT, LATER)]
    assert all(invoice.charges for invoice in made)
    for number, folder in enumerate(folders):
        assert differences(folder, *folders[:number]) == []
    for one in Period.objects.all():
        assert one.run is not None
        assert one.run.total == cost(one.run)
        assert sum(day.nanos for day in one.run.days.all()) == round(one.run.total * 10**9)
    UsageRecord.objects.update(billed_in=period())
    Period.objects.filter(pk=period().pk).update(state=Period.State.OPEN)
    assert total(*(invoice.charges for invoice in made)) == rate_period(period().pk).total


def test_what_is_late_on_one_meter_corrects_no_other(container: Container, tmp_path: Path) -> None:
    """A port that was held in the closed month, beside containers that were billed for all of theirs."""
    ports = PriceDraft("PORT", "published_port", "Port-Seconds", (("0", "0.001"), ("1000", "0.0003")), included="10")
    published(CPU, MEMORY, OUT, ports)
    use(container)
    periods.close(period().pk, NEXT)
    services.hold_ports(container, 2, START)
    services.release_ports(container, START + 2 * HOUR)
    invoice = periods.close(period(NEXT).pk, LATER)
    assert {line.sku for line in period(NEXT).run.lines.all()} == {"PORT"}  # type: ignore[union-attr]
    assert invoice.charges == 1000 * Decimal("0.001") + (2 * 7200 - 1010) * Decimal("0.0003")
    folders = [written(month, tmp_path) for month in (MONTH, NEXT)]
    assert differences(folders[1], folders[0]) == []


def test_what_comes_while_a_month_is_being_closed_is_the_next_one_s(container: Container, tmp_path: Path) -> None:
    """A crash left December closing; usage of November that comes then is in no line of its, whoever finishes it."""
    published(CPU, MEMORY, OUT)
    use(container)
    periods.close(period().pk, NEXT)
    use(container, epoch=2)
    Period.objects.filter(starts_at=NEXT).update(state=Period.State.CLOSING)
    use(container, epoch=3, cpu=10**12)
    periods.close(period(NEXT).pk, LATER)
    periods.close(period(LATER).pk, FEBRUARY)
    folders = [written(month, tmp_path) for month in (MONTH, NEXT, LATER)]
    for number, folder in enumerate(folders):
        assert differences(folder, *folders[:number]) == []
    assert Invoice.objects.get(period__starts_at=LATER).charges > 0


def test_a_correction_is_in_the_hours_that_it_corrects(container: Container) -> None:
    published(CPU, MEMORY, OUT)
    use(container, cpu=4 * 10**12)
    periods.close(period().pk, NEXT)
    use(container, epoch=2, cpu=7 * 10**12)
    rate_period(period(NEXT).pk)
    assert RatedLine.objects.filter(correction=True).exists()
    days, hours = (
        breakdown(Asked(container.tenant, Span(day_of(START), day_of(START) + 2 * DAY), step, "meter", COST))
        for step in ("day", "hour")
    )
    assert days.total
    assert abs(hours.total - days.total) <= len(hours.buckets), "an hour's nanos are rounded"


def test_an_hour_is_held_at_a_time_however_long_the_month(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(CPU, MEMORY, OUT)
    use(container)
    periods.close(period().pk, NEXT)
    use(container, epoch=2)
    held: list[set[dt.datetime]] = []
    plain: Callable[..., Iterator[Line]] = corrections.rate

    def watched(used: Iterable[Used], *of: object) -> Iterator[Line]:
        some = list(used)
        held.append({one.window for one in some})
        return plain(some, *of)

    monkeypatch.setattr(corrections, "rate", watched)
    run = rate_period(period(NEXT).pk)
    assert [len(hours) for hours in held] == [1] * len(held)
    assert len(held) == len({line.window for line in run.lines.all()}) > 1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="it is SQLite's way to look for rows")
def test_an_hour_is_looked_for_by_itself(container: Container) -> None:
    """Not by reading the month for each of its hours, neither as it is rated nor as it is corrected."""
    published(CPU, MEMORY, OUT)
    use(container)
    periods.close(period().pk, NEXT)
    use(container, epoch=2)
    in_month(container, NEXT, 3, cpu=10**12)
    with CaptureQueriesContext(connection) as asked:
        rate_period(period(NEXT).pk)
    hours = [one["sql"] for one in asked if "GROUP BY" in one["sql"] and "metering_usagerecord" in one["sql"]]
    assert len(hours) == 8, "four to correct, and four of its own"
    with connection.cursor() as cursor:
        for one in hours:
            cursor.execute(f"EXPLAIN QUERY PLAN {one}")
            plan = " ".join(str(row[-1]) for row in cursor.fetchall())
            assert "window=?" in plan, plan


def in_month(container: Container, month: dt.datetime, epoch: int, cpu: int) -> None:
    """Two hours and a half in the midst of it."""
    last = at((month - MONTH).total_seconds() + 9000, cpu_ns=cpu, net_tx_bytes=10**9)
    services.ingest_final(
        replace(final(container, last, epoch), started_at=START.timestamp() + (month - MONTH).total_seconds())
    )


def test_a_month_that_was_passed_over_is_billed_in_the_open_one_and_the_chain_does_not_fork(
    container: Container, tmp_path: Path
) -> None:
    """A node was away in December: nobody knew that it was used, and January was closed meanwhile."""
    published(CPU, MEMORY, OUT)
    in_month(container, MONTH, 1, 10**12)
    periods.close(period(MONTH).pk, NEXT)
    in_month(container, LATER, 2, 10**12)
    periods.close(period(LATER).pk, FEBRUARY)
    in_month(container, NEXT, 3, 5 * 10**12)
    in_month(container, OCTOBER, 4, 10**12)
    assert [one.starts_at for one in Period.objects.order_by("starts_at")] == [MONTH, LATER, FEBRUARY]
    invoice = periods.close(period(FEBRUARY).pk, MARCH)
    chained = list(Invoice.objects.order_by("period__starts_at"))
    assert [one.previous_sha256 for one in chained] == ["", *(one.sha256 for one in chained[:-1])]
    lines = period(FEBRUARY).run.lines.all()  # type: ignore[union-attr]
    assert {(line.correction, line.window.month) for line in lines} == {(True, 12)}, (
        "October was before there were prices"
    )
    assert invoice.charges == sum(line.cost for line in lines) > 0
    november, january, february = (written(month, tmp_path) for month in (MONTH, LATER, FEBRUARY))
    assert differences(february, november, january) == []
    assert any("--with" in one for one in differences(february, november))
    assert any("--with" in one for one in differences(february, january))
    for version in ("1.2", "1.3"):
        assert list(faults((february / f"focus-{version}.csv").open(newline=""), version)) == []
    changed(february, "lines.jsonl", lambda one: one["correction"] is True, cost="7")
    consistent(february)
    assert any(one.startswith("corrections") for one in differences(february, november, january))


def test_a_month_that_was_opened_behind_closed_ones_goes_on_into_the_open_one(container: Container) -> None:
    """As homes from before may have one."""
    published(CPU, MEMORY, OUT)
    for epoch, (month, end) in enumerate(((MONTH, NEXT), (LATER, FEBRUARY)), 1):
        in_month(container, month, epoch, 10**12)
        periods.close(period(month).pk, end)
    in_month(container, NEXT, 3, 5 * 10**12)
    expected = rate_period(period(FEBRUARY).pk).total
    behind = Period.objects.create(tenant=container.tenant, starts_at=NEXT, ends_at=LATER)
    UsageRecord.objects.filter(billed_in=period(FEBRUARY)).update(billed_in=behind)
    for one in (period(FEBRUARY), behind):
        rate_period(one.pk)
    credits.give(behind.pk, Decimal("0.05"), "an outage", key="k1")
    Period.objects.filter(starts_at=FEBRUARY).update(state=Period.State.CLOSING)
    migration = import_module("console.metering.migrations.0021_no_open_month_behind_closed_ones")
    migration.move(apps, None)
    migration.move(apps, None)
    assert [one.starts_at for one in Period.objects.order_by("starts_at")] == [MONTH, LATER, FEBRUARY, MARCH]
    assert rate_period(period(MARCH).pk).total == expected > 0
    assert period(MARCH).credits.get().key == "k1"
    assert RatedLine.objects.exclude(run__current_of__isnull=False).count() == 0


@pytest.mark.parametrize("lost", [False, True])
def test_an_end_by_a_clock_that_was_set_back_changes_nothing_of_a_closed_month(
    container: Container, tmp_path: Path, *, lost: bool
) -> None:
    """It ends just behind the month, when the clock, which was fast, shows a time within it."""
    published(CPU, MEMORY)
    begin = (NEXT - START).total_seconds()
    services.take([observed(container, 5, cpu_ns=10**9), observed(container, begin + 3, cpu_ns=2 * 10**9)])
    periods.close(period().pk, NEXT + dt.timedelta(seconds=10))
    before = written(MONTH, tmp_path / "before")
    look = observed(container, begin + 20, cpu_ns=3 * 10**9)
    services.take([replace(look, at_us=look.at_us - 30_000_000)])
    if lost:
        services.close_lost(container.node, {}, LATER)
    else:
        last = at(begin + 21, cpu_ns=4 * 10**9)
        services.ingest_final(final(container, replace(last, at=last.at - 30)))
    assert NEXT < MeterEpoch.objects.get().ended_at < NEXT + HOUR  # type: ignore[operator]
    after = written(MONTH, tmp_path / "after")
    assert {path.name: path.read_bytes() for path in before.iterdir()} == {
        path.name: path.read_bytes() for path in after.iterdir()
    }
    assert differences(after) == []
    assert total_cpu() == (3 if lost else 4) * 10**9
    periods.close(period(NEXT).pk, LATER)
    assert differences(written(NEXT, tmp_path), after) == []


def total_cpu() -> int:
    return sum(UsageRecord.objects.filter(meter="cpu").values_list("quantity", flat=True))
