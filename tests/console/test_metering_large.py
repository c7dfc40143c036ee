"""What is so large that an hour of it does not fit the 64 bits of a record: it has several, which sum to it exactly."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from console.accounts.models import Tenant
from console.metering import selectors, services
from console.metering.exports import bundle
from console.metering.models import Meter, Quality, Reading, UsageRecord
from console.metering.services import holdings, periods
from console.metering.services.prices import PriceDraft
from console.metering.splitting import HOUR, HOUR_US, LARGEST, hour_of, stretches
from console.metering.units import UNITS, in_units
from console.workloads.models import Container, Volume
from tests.console.test_metering import START, at, final
from tests.console.test_metering_bills import CPU, MEMORY, NEXT, period, published
from tests.console.test_metering_exports import changed, consistent, differences
from tests.console.test_metering_ingest import observed

pytestmark = pytest.mark.django_db
TIB, KIB = 1 << 40, 1 << 10
HOURS = 2.5
VOLUME = PriceDraft("VOL", "volume_size", "GiB-Seconds", (("0", "0.00002"),))


@pytest.fixture
def volumes(tenant: Tenant) -> list[Volume]:
    made = [
        Volume.objects.create(tenant=tenant, node="n", name=f"of-{size}", size_bytes=size * TIB) for size in (16, 1)
    ]
    for volume in made:
        holdings.hold_volume(volume, START)
    return made


@pytest.fixture
def container(tenant: Tenant) -> Container:
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=7 * TIB, cpu_millis=1500
    )


def records(meter: Meter, identity: str) -> list[UsageRecord]:
    return list(UsageRecord.objects.filter(meter=meter, resource__identity=identity).order_by("starts_at", "ends_at"))


def check(found: list[UsageRecord], whole: int, end: dt.datetime) -> None:
    """They sum to it and leave nothing out from the start to the end."""
    assert sum(one.quantity for one in found) == whole
    assert [one.starts_at for one in found] == [START, *(one.ends_at for one in found[:-1])]
    assert found[-1].ends_at == end
    assert {one.quality for one in found} == {Quality.EXACT}


def test_a_large_volume_is_billed_whole_and_holds_up_nobody(volumes: list[Volume], tmp_path: Path) -> None:
    services.charge_allocations(START + 2 * HOUR)
    services.charge_allocations(START + 2 * HOUR)
    end = START + 3 * HOUR
    for volume in volumes:
        holdings.release_volume(volume, end)
        size = volume.size_bytes or 0
        check(records(Meter.VOLUME_SIZE, volume.pk), size // KIB * 3 * HOUR_US, end)
    published(VOLUME)
    invoice = periods.close(period().pk, NEXT)
    assert (
        invoice.charges == in_units(17 * TIB // KIB * 3 * HOUR_US, UNITS[Meter.VOLUME_SIZE]["GiB-Seconds"]) * 2 / 10**5
    )
    bundle.write(period(), tmp_path / "november")
    assert differences(tmp_path / "november") == []


@pytest.fixture
def lived(container: Container) -> Container:
    """Looks near each hour, as there are at the least, with a long time between them."""
    full = container.memory_bytes
    for seconds in (1, 60, 1700, 3500, 3700, 7100, 7300):
        services.take([observed(container, seconds, cpu_ns=seconds, memory_bytes=full)])
    services.ingest_final(final(container, at(HOURS * 3600, cpu_ns=9000, memory_bytes=full)))
    return container


def test_a_large_limit_is_billed_whole_and_recomputed(lived: Container, tmp_path: Path) -> None:
    end = START + dt.timedelta(hours=HOURS)
    check(records(Meter.MEMORY_LIMIT, lived.pk), lived.memory_bytes // KIB * int(HOURS * HOUR_US), end)
    published(CPU, MEMORY)
    periods.close(period().pk, NEXT)
    folder = tmp_path / "november"
    bundle.write(period(), folder)
    assert differences(folder) == []
    changed(
        folder,
        "records.jsonl",
        lambda one: one["meter"] == "memory_limit" and one["quantity"] > LARGEST // 2,
        quantity=1,
    )
    consistent(folder)
    assert any(one.startswith("records") for one in differences(folder))


def test_the_pages_sum_what_no_integer_of_the_database_holds(lived: Container, tenant: Tenant) -> None:
    hours = list(selectors.usage(tenant, hour_of(START), START + 4 * HOUR, by="hour"))
    whole = in_units(lived.memory_bytes // KIB * int(HOURS * HOUR_US), UNITS[Meter.MEMORY_LIMIT]["GiB-Seconds"])
    assert sum(row.memory_limit_gib_seconds for row in hours) == whole


def test_memory_that_was_used_is_read_as_often_as_it_fits_a_reading(lived: Container) -> None:
    readings = list(Reading.objects.filter(meter=Meter.MEMORY_USED).order_by("sequence"))
    assert [one for one in readings if one.value is None and one.reason != "gap"] == []
    used = UsageRecord.objects.filter(meter=Meter.MEMORY_USED, quality=Quality.INTEGRATED)
    assert sum(one.quantity for one in used) == sum(one.value or 0 for one in readings)
    assert any(one.quality == Quality.MISSING for one in records(Meter.MEMORY_USED, lived.pk)), "3,400 s of 7 TiB"


def test_a_day_without_a_look_and_a_clock_set_back_lie_in_one_hour(tenant: Tenant) -> None:
    """Of an ordinary size, and yet more than a record holds."""
    container = Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=TIB, cpu_millis=1500
    )
    look = observed(container, 86_400, cpu_ns=5)
    services.take([observed(container, 1, cpu_ns=1), replace(look, at_us=look.at_us - 86_390_000_000)])
    limit = UsageRecord.objects.filter(meter=Meter.MEMORY_LIMIT)
    assert sum(one.quantity for one in limit) == TIB // KIB * 86_400 * 10**6


def test_stretches_fit_and_sum() -> None:
    for rate, us, wall in (
        (1, HOUR_US, HOUR_US), (16 * TIB // KIB, HOUR_US, HOUR_US), (TIB // KIB, 24 * HOUR_US, 24 * HOUR_US),
        (TIB // KIB, 24 * HOUR_US, 5), (TIB // KIB, 24 * HOUR_US, 0), (0, HOUR_US, HOUR_US), (LARGEST, 3, 3), (5, 0, 0),
    ):  # fmt: skip
        found = list(stretches(rate, us, wall))
        assert [first for first, _ in found] == [0, *(last for _, last in found[:-1])]
        assert found[-1][1] == us
        of_an_hour = min(HOUR_US, wall) / max(1, wall) if len(found) == 1 and wall else 1
        assert all(rate * (last - first) * of_an_hour <= LARGEST for first, last in found)
