"""Two implementations, one bill: whatever happens in two months, what is billed is what ``verify-bill`` recomputes."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from console.accounts.models import Tenant
from console.metering import measuring, services
from console.metering.exports import bundle
from console.metering.exports.focus_check import faults
from console.metering.models import Meter, Period, Quality, UsageRecord
from console.metering.observations import Observation
from console.metering.services import credits, periods
from console.metering.services.rating import rate_period
from console.metering.sizes import Size
from console.metering.splitting import HOUR
from console.metering.units import total
from console.workloads.models import Container
from launcher import verify_bill
from runtime.api import Counters, FinalReading, Limits
from tests.console.test_metering_bills import CPU, LATER, MEMORY, MONTH, NEXT, OUT, published

US = 10**6
FIELDS = {Meter.CPU: "cpu_ns", Meter.BLOCK_READ: "block_read_bytes", Meter.BLOCK_WRITE: "block_write_bytes",
          Meter.NET_RX: "net_rx_bytes", Meter.NET_TX: "net_tx_bytes"}  # fmt: skip


class Life:
    """One start of a container, with a kernel that may fall silent or count wrong and a clock that may be set."""

    def __init__(self, luck: random.Random, container: Container, number: int, start: dt.datetime) -> None:
        self.luck, self.container, self.number = luck, container, number
        self.started_us = self.at_us = round(start.timestamp() * US)
        self.ns = luck.randrange(10**12, 10**15)
        self.values = dict.fromkeys(FIELDS, 0)

    def passed(self, seconds: float) -> None:
        self.at_us += round(seconds * US)
        self.ns += round(seconds * US) * 1000
        for meter in self.values:
            self.values[meter] += self.luck.randrange(0, 10**9)

    def look(self) -> Observation:
        values: dict[str, int | None] = {str(meter): value for meter, value in self.values.items()}
        if self.luck.random() < 0.1:
            values[str(self.luck.choice(list(FIELDS)))] = self.luck.choice([None, 3])
        set_by = self.luck.choice([0] * 18 + [-3600 * US, 3600 * US])
        gauge = None if self.luck.random() < 0.1 else self.luck.randrange(1 << 28)
        return Observation(
            self.container.pk, self.number, self.started_us, "boot", 1, self.at_us + set_by, self.ns, values, gauge
        )

    def final(self) -> FinalReading:
        counters = Counters(
            at=self.at_us / US,
            boottime_ns=self.ns,
            memory_bytes=5,
            **{FIELDS[meter]: n for meter, n in self.values.items()},
        )
        limits = Limits(self.container.memory_bytes, self.container.cpu_millis)
        return FinalReading(
            self.container.pk, self.container.tenant_id, self.number, "boot", 7, self.started_us / US, self.at_us / US, limits,
            counters,
        )  # fmt: skip


def lived(luck: random.Random, container: Container, number: int, start: dt.datetime) -> int:
    """CPU of its final reading."""
    life = Life(luck, container, number, start)
    looks = []
    for _ in range(luck.randrange(0, 12)):
        life.passed(luck.choice([0.4, 30, 60, 1700, 5000]))
        looks.append(life.look())
    luck.shuffle(looks)
    services.take(looks)
    life.passed(luck.choice([0.05, 20, 4000]))
    services.ingest_final(life.final())
    return life.values[Meter.CPU]


def kept(path: Path, chosen: Callable[[str], bool]) -> None:
    """The other lines are taken out."""
    path.write_text("".join(filter(chosen, path.read_text().splitlines(keepends=True))))


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(8))
def test_what_is_billed_is_what_is_recomputed(tenant: Tenant, tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    published(CPU, MEMORY, OUT)
    published(replace(OUT, tiers=(("0", "0.07"),)), tenant=tenant, valid_from=MONTH + dt.timedelta(days=20))
    cpu = 0
    for name in ("a", "b", "c"):
        container = Container.objects.create(
            tenant=tenant, node="n", name=name, image_reference="x", memory_bytes=(1 << 30) + luck.randrange(1 << 20),
            cpu_millis=luck.randrange(10, 4000),
        )  # fmt: skip
        begin = MONTH + dt.timedelta(days=18, seconds=luck.randrange(86400 * 8))
        services.hold_ports(container, luck.randrange(1, 4), begin)
        cpu += lived(luck, container, 1, begin)
        cpu += lived(luck, container, 2, NEXT - dt.timedelta(seconds=luck.randrange(20_000)))
        services.release_ports(container, NEXT + HOUR / 3)
    november = Period.objects.get(starts_at=MONTH)
    credits.give(november.pk, Decimal("0.01"), "an outage", key="k")
    first = periods.close(november.pk, NEXT + 3 * HOUR)
    late = Container.objects.create(
        tenant=tenant, node="n", name="late", image_reference="x", memory_bytes=1 << 29, cpu_millis=100
    )
    cpu += lived(luck, late, 1, MONTH + dt.timedelta(days=19, seconds=luck.randrange(86400)))
    december = Period.objects.get(starts_at=NEXT)
    second = periods.close(december.pk, LATER)
    folders = [tmp_path / "november", tmp_path / "december"]
    for period, folder in zip((november, december), folders, strict=True):
        bundle.write(Period.objects.get(pk=period.pk), folder)
    bundles = [verify_bill.Bundle.read(folder) for folder in folders]
    assert verify_bill.verify(bundles[0], given=first.sha256) == []
    assert verify_bill.verify(bundles[1], bundles[:1], second.sha256) == []
    for folder in folders:
        for version in ("1.2", "1.3"):
            assert list(faults((folder / f"focus-{version}.csv").open(newline=""), version)) == []
    counted = UsageRecord.objects.filter(meter=Meter.CPU).values_list("quantity", flat=True)
    assert sum(counted) == cpu
    lines = [line for one in bundles for line in one.rows("lines")]
    assert total(*(Decimal(line["cost"]) for line in lines)) == total(first.charges, second.charges)


@pytest.mark.django_db
@pytest.mark.parametrize("days", [-4 * 365, -2, 2, 36 * 365])
@pytest.mark.parametrize("large", [False, True])
def test_a_clock_that_was_wrong_by_days_is_believed_once_it_is_set(
    tenant: Tenant, tmp_path: Path, days: int, large: bool
) -> None:
    """As after a boot with an empty battery: what was used meanwhile is in a few records, and what comes then lies where it belongs."""
    published(CPU, MEMORY, OUT, valid_from=MONTH - dt.timedelta(days=5 * 365))
    container = Container.objects.create(
        tenant=tenant, node="n", name="a", image_reference="x", cpu_millis=1500, memory_bytes=1 << (48 if large else 30)
    )
    luck = random.Random(days)
    begin = MONTH + dt.timedelta(days=9, seconds=1234)
    life = Life(luck, container, 1, begin)
    wrong = round(dt.timedelta(days=days).total_seconds()) * US
    started_us, started_ns = life.started_us + wrong, life.ns
    looks = []
    for number in range(8):
        life.passed(60)
        look = replace(life.look(), values={str(meter): value for meter, value in life.values.items()})
        at_us = life.at_us + (wrong if number < 4 else 0)
        sizes = (Size(life.ns, life.ns, at_us, container.memory_bytes // 2, 500),) if number == 5 else ()
        looks.append(replace(look, at_us=at_us, started_us=started_us, started_ns=started_ns, sizes=sizes))
        services.take(looks[-1:])
    life.passed(60)
    last = replace(life.final(), started_at=started_us / US, started_boottime_ns=started_ns)
    services.ingest_final(last)
    assert UsageRecord.objects.count() < 100 + 50 * large
    for meter, value in life.values.items():
        assert sum(UsageRecord.objects.filter(meter=meter).values_list("quantity", flat=True)) == value
    held = UsageRecord.objects.filter(meter=Meter.CPU_LIMIT).values_list("quantity", flat=True)
    assert sum(held) == 1500 * 360 * US + 500 * 180 * US
    since = UsageRecord.objects.filter(window__gte=MONTH, window__lt=NEXT)
    assert since.filter(meter=Meter.CPU).exists()
    assert (
        sum(since.filter(meter=Meter.CPU_LIMIT).values_list("quantity", flat=True)) >= 1500 * 120 * US + 500 * 180 * US
    )
    for period in Period.objects.order_by("starts_at"):
        rate_period(period.pk)
        folder = tmp_path / f"{period.starts_at:%Y-%m}"
        bundle.write(Period.objects.get(pk=period.pk), folder)
        assert verify_bill.verify(verify_bill.Bundle.read(folder)) == []


@pytest.mark.django_db
@pytest.mark.parametrize("days", [-4 * 365, -2, 2, 36 * 365])
@pytest.mark.parametrize("lost", [False, True])
def test_what_a_clock_that_was_wrong_leaves_missing_fills_no_years_either(
    tenant: Tenant, tmp_path: Path, days: int, lost: bool
) -> None:
    """As of each container without a network, whose traffic nobody knows from its start to its end."""
    published(CPU, MEMORY, OUT, valid_from=MONTH - dt.timedelta(days=60 * 365))
    container = Container.objects.create(
        tenant=tenant, node="n", name="a", image_reference="x", cpu_millis=1500, memory_bytes=1 << 30
    )
    life = Life(random.Random(days), container, 1, MONTH + dt.timedelta(days=9, seconds=1234))
    wrong = round(dt.timedelta(days=days).total_seconds()) * US
    started_us, started_ns, right = life.started_us + wrong, life.ns, 4 if not lost else 9
    for number in range(8):
        life.passed(60)
        values = {str(meter): None if "net" in meter else value for meter, value in life.values.items()}
        at_us = life.at_us + (wrong if number < right else 0)
        look = replace(
            life.look(), values=values, gauge=None, at_us=at_us, started_us=started_us, started_ns=started_ns
        )
        services.take([look])
    life.passed(60)
    ended = dt.datetime.fromtimestamp(life.at_us / US, dt.UTC)
    if lost:
        Container.objects.update(finished_at=ended)
        services.close_lost("n", {}, ended + dt.timedelta(days=37 * 365))
    else:
        last = life.final()
        last = replace(last, counters=replace(last.counters, net_rx_bytes=None, net_tx_bytes=None))
        services.ingest_final(replace(last, started_at=started_us / US, started_boottime_ns=started_ns))
    assert UsageRecord.objects.count() < 60 + (lost and days == -2) * 400
    missing = UsageRecord.objects.filter(quality=Quality.MISSING, meter=Meter.NET_RX)
    spans = missing.values_list("starts_at", "ends_at")
    if not lost:
        assert sum((end - start for start, end in spans), dt.timedelta(0)) == dt.timedelta(seconds=540)
        assert max(end for _, end in spans) == ended
    for period in Period.objects.order_by("starts_at"):
        rate_period(period.pk)
        folder = tmp_path / f"{period.starts_at:%Y-%m}"
        bundle.write(Period.objects.get(pk=period.pk), folder)
        assert verify_bill.verify(verify_bill.Bundle.read(folder)) == []


@pytest.mark.django_db
def test_a_month_in_which_a_meter_was_silent_and_goes_on_being_so_has_no_difference(
    tenant: Tenant, tmp_path: Path
) -> None:
    """A container without a network: that its traffic is missing is recorded at its end, when this month is closed."""
    published(CPU, MEMORY, OUT)
    container = Container.objects.create(
        tenant=tenant, node="n", name="a", image_reference="x", cpu_millis=1500, memory_bytes=1 << 30
    )
    life = Life(random.Random(1), container, 1, NEXT - HOUR)
    for _ in range(4):
        life.passed(1800)
        values = {str(meter): None if "net" in meter else value for meter, value in life.values.items()}
        services.take([replace(life.look(), values=values, at_us=life.at_us)])
    first = periods.close(Period.objects.get(starts_at=MONTH).pk, NEXT + HOUR)
    life.passed(60)
    last = life.final()
    services.ingest_final(replace(last, counters=replace(last.counters, net_rx_bytes=None, net_tx_bytes=None)))
    second = periods.close(Period.objects.get(starts_at=NEXT).pk, LATER)
    bundles = []
    for month in (MONTH, NEXT):
        folder = tmp_path / f"{month:%Y-%m}"
        bundle.write(Period.objects.get(starts_at=month), folder)
        bundles.append(verify_bill.Bundle.read(folder))
    assert verify_bill.verify(bundles[0], given=first.sha256) == []
    assert verify_bill.verify(bundles[1], bundles[:1], second.sha256) == []
    kept(bundles[1].path("records"), lambda line: '"meter":"net_rx"' not in line)
    assert any("none of net_rx" in one for one in verify_bill.verify(bundles[1], bundles[:1]))


@pytest.mark.django_db
@pytest.mark.parametrize("large", [False, True])
def test_a_bill_from_when_a_clock_was_believed_however_far_it_was_set_is_right(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """As of a virtual machine that was held for four days: neither its counters nor its boot time went on."""
    published(CPU, MEMORY, OUT)
    container = Container.objects.create(
        tenant=tenant, node="n", name="a", image_reference="x", cpu_millis=1500, memory_bytes=1 << (48 if large else 30)
    )
    life = Life(random.Random(1), container, 1, MONTH + dt.timedelta(days=3))

    def looked() -> None:
        life.passed(60)
        services.take([replace(life.look(), values={str(meter): value for meter, value in life.values.items()})])

    with monkeypatch.context() as before:
        before.setattr(measuring, "LONGEST_STEP_US", 10**18)
        looked()
        life.at_us += 4 * 86400 * US
        looked()
    assert UsageRecord.objects.filter(meter=Meter.CPU).count() > 90
    looked()
    life.at_us += 4 * 86400 * US
    looked()
    services.ingest_final(life.final())
    rate_period(Period.objects.get().pk)
    bundle.write(Period.objects.get(), tmp_path / "november")
    found = verify_bill.Bundle.read(tmp_path / "november")
    assert verify_bill.verify(found) == []
    *_, last = found.path("records").read_text().splitlines(keepends=True)
    kept(found.path("records"), lambda line: line != last)
    assert verify_bill.verify(found)
