"""Weeks of two tenants, at random: price books of all units in the midst of months, readings that come when their month is closed, names,
labels, credits.  Every bill is recomputed, its files say the same, and what was billed by now is what the months cost at once.
"""

from __future__ import annotations

import csv
import datetime as dt
import random
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from console.accounts.models import Tenant
from console.core.errors import Invalid
from console.metering import services
from console.metering.exports import bundle
from console.metering.exports.focus import NUMBERS, moment
from console.metering.exports.focus_check import faults
from console.metering.models import Invoice, Meter, Period, RatedLine, UsageRecord
from console.metering.months import month_of
from console.metering.rating import Line, rate
from console.metering.selectors.breakdown import COST, Asked, breakdown
from console.metering.selectors.hours import by_hour
from console.metering.selectors.prices import Prices
from console.metering.services import allocations, credits, cycle, prices, resources, sums
from console.metering.services.prices import BookDraft, PriceDraft
from console.metering.spans import DAY, Span
from console.metering.units import UNITS, total
from console.workloads.models import Container
from launcher import verify_bill
from tests.console.test_metering_lives import Life

pytestmark = pytest.mark.django_db
BEGIN, END = dt.datetime(2026, 9, 1, tzinfo=dt.UTC), dt.datetime(2026, 11, 10, tzinfo=dt.UTC)
SOME_TIME = Span(BEGIN, END + 420 * DAY)
Sums = dict[tuple[dt.datetime, str, str], tuple[int, Decimal, Decimal]]


class World:
    def __init__(self, luck: random.Random, tenants: list[Tenant]) -> None:
        self.luck, self.tenants = luck, tenants
        self.todo: list[tuple[dt.datetime, int, Callable[[], object]]] = []
        self.containers = [self.container(n) for n in range(3)]
        self.listed = self.offered()

    def at(self, when: dt.datetime, work: Callable[[], object]) -> None:
        self.todo.append((when, len(self.todo), work))

    def some_day(self) -> dt.datetime:
        return BEGIN + self.luck.randrange(65) * DAY

    def container(self, n: int) -> Container:
        return Container.objects.create(
            tenant=self.tenants[n % 2], node="n", name=f"c{n}", image_reference=self.luck.choice("xy"),
            memory_bytes=(1 << 30) + self.luck.randrange(1 << 20), cpu_millis=self.luck.randrange(10, 4000),
        )  # fmt: skip

    def offered(self) -> dict[Meter, tuple[str, str]]:
        """SKU and unit of each meter that has a price."""
        some = self.luck.sample(list(Meter), self.luck.randrange(5, len(Meter) + 1))
        return {
            meter: (f"{self.luck.choice('ST')}-{meter.replace('_', '-')}", self.luck.choice(list(UNITS[meter])))
            for meter in some
        }

    def publish(self, tenant: Tenant | None, valid_from: dt.datetime) -> None:
        """Some are refused: that is told, and they do not count."""
        if tenant is None and self.luck.random() < 0.5:
            self.listed = self.offered()
        found = [
            PriceDraft(sku, meter, unit, self.tiers(), self.luck.choice(["0", "0.5", "10", "777"]))
            for meter, (sku, unit) in self.listed.items()
            if tenant is None or self.luck.random() < 0.6
        ]
        made = prices.draft(BookDraft("EUR", valid_from, tuple(found)), tenant)
        try:
            prices.publish(made.pk)
        except Invalid:
            prices.discard(made.pk)

    def tiers(self) -> tuple[tuple[str, str], ...]:
        further = {self.luck.choice([1, 2, 5, 100, 1000, 3600]) for _ in range(self.luck.randrange(3))}
        return tuple((str(start), f"0.{self.luck.randrange(10**7):012d}") for start in (0, *sorted(further)))

    def lives(self, container: Container) -> dict[int, int]:
        """CPU of each start."""
        found, when = {}, BEGIN + self.luck.random() * 15 * DAY
        while when < END - 2 * DAY:
            number = len(found) + 1
            life = Life(self.luck, container, number, when)
            late = self.luck.choice([0, 0, 0, 20, 45]) * DAY
            for _ in range(self.luck.randrange(0, 6)):
                life.passed(self.luck.choice([0.4, 60, 1700, 5000, 20_000]))
                look = life.look()
                self.at(when + late, lambda look=look: services.take([look] * 2))  # type: ignore[misc]
            life.passed(self.luck.choice([0.05, 20, 4000]))
            last = life.final()
            when = dt.datetime.fromtimestamp(life.at_us / 10**6, dt.UTC)
            self.at(when + late, lambda last=last: services.ingest_final(last))  # type: ignore[misc]
            found[number] = life.values[Meter.CPU]
            when += self.luck.choice([1, 86_400 * 6, 86_400 * 12]) * dt.timedelta(seconds=1)
        return found

    def holds(self, container: Container, when: dt.datetime) -> None:
        meter = self.luck.choice([Meter.PUBLISHED_PORT, Meter.DISK_SIZE, Meter.VOLUME_SIZE])
        amount = self.luck.randrange(1, 1 << 26)
        self.at(when, lambda: allocations.hold(resources.of_container(container), meter, amount, when))
        self.at(when + 9 * DAY, lambda: self.rename(container, when + 9 * DAY))
        self.at(when + 13 * DAY, lambda: services.release_all(container, when + 13 * DAY))

    def rename(self, container: Container, when: dt.datetime) -> None:
        labels = self.luck.choice([{}, {"team": "a"}, {"team": '"b,\n'}])
        Container.objects.filter(pk=container.pk).update(name=f"r{when:%d}", labels=labels)
        services.renamed(Container.objects.get(pk=container.pk), when)

    def credit(self, tenant: Tenant, key: str) -> None:
        found = Period.objects.of(tenant).filter(state=Period.State.OPEN).order_by("starts_at").first()
        if found is not None and Prices(tenant.pk).currency:
            credits.give(found.pk, Decimal(1), "an outage", key=key)

    def live(self) -> dict[str, dict[int, int]]:
        cpu = {one.pk: self.lives(one) for one in self.containers}
        for one in self.containers:
            self.holds(one, self.some_day())
        for number in range(4):
            for tenant in (None, self.luck.choice(self.tenants)):
                day = self.some_day()
                self.at(day, lambda of=tenant, day=day: self.publish(of, day + self.luck.choice([-9, 0, 5]) * DAY))  # type: ignore[misc]
            self.at(self.some_day(), lambda key=f"k{number}": self.credit(self.luck.choice(self.tenants), key))  # type: ignore[misc]
        for day in range(0, 70, 12):
            self.at(BEGIN + day * DAY, lambda as_of=BEGIN + day * DAY: cycle.turn(as_of))  # type: ignore[misc]
        for _, _, work in sorted(self.todo, key=lambda one: one[:2]):
            work()
        cycle.turn(END + 150 * DAY)
        return cpu


def summed(lines: Iterable[Line | RatedLine]) -> Sums:
    found: Sums = {}
    for line in lines:
        key = (line.window, line.resource_id if isinstance(line, RatedLine) else line.resource, line.sku)
        quantity, cost, listed = found.get(key, (0, Decimal(0), Decimal(0)))
        found[key] = quantity + int(line.quantity), total(cost, line.cost), total(listed, line.list_cost)
    return {key: sums for key, sums in found.items() if any(sums)}


def at_once(tenant: Tenant) -> Iterable[Line]:
    """Each month rated as if all of it had been known."""
    offer = Prices(tenant.pk).offer
    start, end = month_of(SOME_TIME.start)
    while start < SOME_TIME.end:
        reached: dict[str, int] = {}
        for hour in by_hour(UsageRecord.objects.of(tenant), start, end):
            yield from rate(hour, offer, reached)
        start, end = month_of(end)


def check_tables(folder: Path, version: str) -> list[dict[str, str]]:
    """CSV and Parquet say the same."""
    rows = list(csv.DictReader((folder / f"focus-{version}.csv").open(newline="", encoding="utf-8")))
    for row, stored in zip(rows, pq.read_table(folder / f"focus-{version}.parquet").to_pylist(), strict=True):
        of_parquet = {name: moment(cell) if isinstance(cell, dt.datetime) else cell for name, cell in stored.items()}
        assert {
            name: Decimal(cell) if cell and name in NUMBERS else cell or None for name, cell in row.items()
        } == of_parquet  # fmt: skip
    return rows


def check(tenant: Tenant, folder: Path) -> None:
    earlier: list[verify_bill.Bundle] = []
    for period in Period.objects.of(tenant).order_by("starts_at"):
        invoice = Invoice.objects.get(period=period)
        made = folder / f"{tenant.slug}-{period.starts_at:%Y-%m}"
        bundle.write(period, made)
        earlier.append(verify_bill.Bundle.read(made))
        assert verify_bill.verify(earlier[-1], earlier[:-1], invoice.sha256) == []
        for version in ("1.2", "1.3"):
            rows = check_tables(made, version)
            assert total(*(Decimal(row["BilledCost"]) for row in rows)) == invoice.payable
            if invoice.currency:
                assert list(faults((made / f"focus-{version}.csv").open(newline=""), version)) == []
    billed = RatedLine.objects.filter(run__current_of__tenant=tenant)
    assert summed(billed) == summed(at_once(tenant))
    sums.refresh()
    whole = Span(SOME_TIME.start, month_of(SOME_TIME.end)[1])
    charged = sum(round(one.charges * 10**9) for one in Invoice.objects.of(tenant))
    assert breakdown(Asked(tenant, whole, "month", "container", COST)).total == charged


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_is_billed_once_and_recomputed(tenant: Tenant, tmp_path: Path, seed: int) -> None:
    world = World(random.Random(seed), [tenant, Tenant.objects.create(name="Other", slug="other")])
    for container, starts in world.live().items():
        for number, cpu in starts.items():
            mine = UsageRecord.objects.filter(meter=Meter.CPU, epoch__container=container, epoch__number=number)
            assert sum(mine.values_list("quantity", flat=True)) == cpu
    for one in world.tenants:
        check(one, tmp_path)
    assert Invoice.objects.filter(charges__gt=0).count() > 2
