"""Conservation: whatever is read, however often, records sum to the last reading, to the unit."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from dataclasses import replace
from decimal import Decimal

import pytest
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st

from console.accounts.models import Tenant
from console.core.errors import Invalid
from console.metering import exports, selectors, services
from console.metering.models import Meter, MeterEpoch, Quality, Reading, UsageRecord
from console.metering.splitting import HOUR, hour_of, split
from console.workloads.models import Container
from runtime.api import ContainerStatus, Counters, FinalReading, Limits, State

START = dt.datetime(2026, 11, 23, 20, 59, 50, tzinfo=dt.UTC)
OF_CONTAINERS = set(Meter.values) - {Meter.PUBLISHED_PORT, Meter.VOLUME_SIZE, Meter.DISK_SIZE}
MOMENTS = st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2026, 12, 31), timezones=st.just(dt.UTC))


@given(st.integers(0, 10**18), MOMENTS, st.timedeltas(dt.timedelta(0), dt.timedelta(days=3)))
def test_parts_sum_to_the_whole_and_lie_in_their_hours(quantity: int, start: dt.datetime, length: dt.timedelta) -> None:
    parts = split(quantity, start, start + length)
    assert sum(part.quantity for part in parts) == quantity
    assert all(part.quantity >= 0 for part in parts)
    assert all(part.window <= part.starts_at <= part.ends_at <= part.window + HOUR for part in parts)
    assert parts[0].starts_at == start
    for before, after in itertools.pairwise(parts):
        assert before.ends_at == after.starts_at == after.window


def at(seconds: float, **values: int | None) -> Counters:
    plain = Counters(
        at=START.timestamp() + seconds, boottime_ns=10**12 + round(seconds * 1e9), cpu_ns=0, memory_bytes=100, block_read_bytes=0,
        block_write_bytes=0, net_rx_bytes=0, net_tx_bytes=0,
    )  # fmt: skip
    return replace(plain, **values)  # type: ignore[arg-type]


def begun(container: Container, epoch: int = 1) -> MeterEpoch:
    status = ContainerStatus(
        container.id, container.tenant_id, "web", "x", State.RUNNING, started_at=START.timestamp(), epoch=epoch,
        limits_at_start=Limits(container.memory_bytes, container.cpu_millis),
    )  # fmt: skip
    return services.begin(status, container)


def final(container: Container, counters: Counters, epoch: int = 1) -> FinalReading:
    limits = Limits(container.memory_bytes, container.cpu_millis)
    return FinalReading(
        container.id, container.tenant_id, epoch, "boot", 7, START.timestamp(), counters.at, limits, counters
    )


def total(meter: Meter) -> int:
    return int(UsageRecord.objects.filter(meter=meter).aggregate(sum=Sum("quantity"))["sum"] or 0)


@pytest.mark.django_db
def test_records_sum_to_the_final_reading(container: Container) -> None:
    begun(container)
    for seconds, cpu in ((3, 1_000_000_007), (63, 5_000_000_011), (123, 9_999_999_999)):
        services.read({container.id: at(seconds, cpu_ns=cpu, net_rx_bytes=cpu // 7)})
    services.ingest_final(final(container, at(130.5, cpu_ns=10_000_000_019, net_rx_bytes=1_500_000_000)))
    assert total(Meter.CPU) == 10_000_000_019
    assert total(Meter.NET_RX) == 1_500_000_000
    assert total(Meter.MEMORY_LIMIT) == (1 << 20) * 130_500_000
    assert total(Meter.CPU_LIMIT) == 1500 * 130_500_000
    assert {record.window for record in UsageRecord.objects.all()} == {hour_of(START), hour_of(START) + HOUR}


@pytest.mark.django_db
def test_replays_change_nothing(container: Container) -> None:
    begun(container)
    readings = [at(seconds, cpu_ns=seconds * 10**8) for seconds in (1, 61, 121)]
    for reading in readings:
        services.read({container.id: reading})
    for reading in (readings[2], readings[0], readings[1]):
        services.read({container.id: reading})
    last = final(container, at(122, cpu_ns=122 * 10**8))
    services.ingest_final(last)
    rows = (UsageRecord.objects.count(), Reading.objects.count())
    services.ingest_final(last)
    begun(container)
    services.read({container.id: at(200, cpu_ns=10**12)})
    assert (UsageRecord.objects.count(), Reading.objects.count()) == rows
    assert total(Meter.CPU) == 122 * 10**8


@pytest.mark.django_db
def test_a_container_of_fifty_milliseconds_is_billed(container: Container) -> None:
    services.ingest_final(final(container, at(0.05, cpu_ns=31_000_000)))
    assert total(Meter.CPU) == 31_000_000
    assert total(Meter.MEMORY_LIMIT) == (1 << 20) * 50_000
    assert set(UsageRecord.objects.values_list("meter", flat=True)) == OF_CONTAINERS


@pytest.mark.django_db
def test_a_counter_that_went_back_is_never_negative_and_never_twice(container: Container) -> None:
    begun(container)
    for seconds, cpu in ((1, 1000), (2, 400), (3, 900), (4, 1500)):
        services.read({container.id: at(seconds, cpu_ns=cpu)})
    services.ingest_final(final(container, at(5, cpu_ns=1500)))
    assert total(Meter.CPU) == 1500
    anomalies = Reading.objects.filter(reason="anomaly").order_by("sequence")
    assert [row.value for row in anomalies] == [400, 900]
    assert not UsageRecord.objects.filter(quantity__lt=0).exists()


@pytest.mark.django_db
def test_what_the_kernel_does_not_say_is_no_zero(container: Container) -> None:
    begun(container)
    services.read({container.id: at(5, cpu_ns=1, block_read_bytes=None)})
    assert Reading.objects.get(meter=Meter.BLOCK_READ).reason == "unavailable"
    assert not UsageRecord.objects.filter(meter=Meter.BLOCK_READ).exists()


@pytest.mark.django_db
def test_a_meter_that_was_silent_is_not_charged_twice(container: Container) -> None:
    begun(container)
    for seconds, received in ((1, 1000), (2, None), (3, 1500)):
        services.read({container.id: at(seconds, net_rx_bytes=received)})
    services.ingest_final(final(container, at(4, net_rx_bytes=1500)))
    assert total(Meter.NET_RX) == 1500


@pytest.mark.django_db
def test_a_reading_belongs_to_the_start_that_runs(container: Container) -> None:
    begun(container)
    services.read({container.id: at(1, cpu_ns=1000)})
    begun(container, epoch=2)
    services.read({container.id: at(3, cpu_ns=10)})
    services.ingest_final(final(container, at(2, cpu_ns=1100)))
    services.ingest_final(final(container, at(4, cpu_ns=20), epoch=2))
    assert total(Meter.CPU) == 1120


@pytest.mark.django_db
def test_a_stepped_clock_bends_no_quantity(container: Container) -> None:
    begun(container)
    services.read({container.id: at(10, cpu_ns=10)})
    back = at(20, cpu_ns=20)
    services.read({container.id: replace(back, at=back.at - 3600)})
    services.ingest_final(final(container, replace(back, at=back.at - 3600)))
    assert total(Meter.CPU) == 20
    assert total(Meter.CPU_LIMIT) == 1500 * 20 * 10**6


@pytest.mark.django_db
def test_each_start_counts_from_zero(container: Container) -> None:
    services.ingest_final(final(container, at(1, cpu_ns=100)))
    services.ingest_final(final(container, at(2, cpu_ns=50), epoch=2))
    assert total(Meter.CPU) == 150


LATER = START + dt.timedelta(hours=2)


@pytest.mark.django_db
def test_a_lost_final_reading_ends_its_epoch_as_missing(container: Container) -> None:
    epoch = begun(container)
    services.read({container.id: at(10, cpu_ns=1000)})
    Container.objects.filter(pk=container.pk).update(finished_at=START + dt.timedelta(seconds=15))
    assert services.close_lost("n", {container.id: 1}, LATER) == 0, "it runs"
    assert services.close_lost("other", {}, LATER) == 0, "another node's"
    assert services.close_lost("n", {}, START + dt.timedelta(seconds=30)) == 0, "it may have started just now"
    assert services.close_lost("n", {}, LATER, {container.id}) == 0, "it is damaged, and its removal stores a reading"
    assert services.close_lost("n", {container.id: 2}, LATER) == 1
    assert services.close_lost("n", {}, LATER) == 0
    epoch.refresh_from_db()
    assert (epoch.lost, epoch.ended_at) == (True, START + dt.timedelta(seconds=15))
    assert total(Meter.CPU) == 1000
    assert total(Meter.CPU_LIMIT) == 1500 * 10 * 10**6
    gaps = UsageRecord.objects.filter(quality=Quality.MISSING)
    assert {(gap.meter, gap.quantity) for gap in gaps} == {(meter, 0) for meter in OF_CONTAINERS}
    assert min(gap.starts_at for gap in gaps) == START + dt.timedelta(seconds=10)
    (row,) = selectors.usage(None, hour_of(START), LATER, by="total")
    assert (row.quality, row.vcpu_seconds) == ("incomplete", Decimal("0.000001"))


@pytest.mark.django_db
def test_a_final_reading_bills_the_limits_that_it_carries(container: Container) -> None:
    reading = replace(final(container, at(1)), limits=Limits(1 << 20, 10))
    Container.objects.filter(pk=container.pk).update(memory_bytes=1 << 40, cpu_millis=9000)
    assert services.ingest_final(reading)
    assert (total(Meter.MEMORY_LIMIT), total(Meter.CPU_LIMIT)) == (1024 * 10**6, 10 * 10**6)


@pytest.mark.django_db
def test_a_final_reading_that_no_row_knows_is_kept(container: Container) -> None:
    assert not services.ingest_final(replace(final(container, at(1)), container="cunknown"))


@pytest.mark.django_db
def test_no_epoch_begins_without_a_start(container: Container) -> None:
    status = ContainerStatus(container.id, container.tenant_id, "web", "x", State.CREATED, epoch=1)
    with pytest.raises(ValueError, match=container.id):
        services.begin(status, container)


@pytest.mark.django_db
def test_what_the_kernel_did_not_say_is_exported_empty(container: Container, tenant: Tenant) -> None:
    services.ingest_final(final(container, at(3, cpu_ns=5, block_read_bytes=None)))
    period = exports.period("2026-11-23", "2026-11-24")
    header, row = (line.split(",") for line in "".join(exports.csv_rows(tenant, *period)).strip().split("\r\n"))
    cells = dict(zip(header, row, strict=True))
    assert (cells["block_read_bytes"], cells["block_write_bytes"], cells["quality"]) == ("", "0", "incomplete")
    (found,) = json.loads("".join(exports.json_chunks(tenant, *period)))["containers"]
    assert found["block_read_bytes"] is None


@pytest.mark.django_db
def test_an_export_is_the_sum_of_the_records_twice_the_same(container: Container, tenant: Tenant) -> None:
    services.ingest_final(final(container, at(3600, cpu_ns=1_234_567_890)))
    period = exports.period("2026-11-23", "2026-11-24")
    text = "".join(exports.csv_rows(tenant, *period))
    assert text == "".join(exports.csv_rows(tenant, *period))
    header, row = (line.split(",") for line in text.strip().split("\r\n"))
    cells = dict(zip(header, row, strict=True))
    assert Decimal(cells["vcpu_seconds"]) == Decimal("1.23456789")
    assert cells["period_start"] == "2026-11-23T00:00:00Z"
    hours = list(selectors.usage(tenant, *period, by="hour"))
    assert len(hours) == 2
    assert sum(hour.vcpu_seconds for hour in hours) == Decimal("1.23456789")
    assert "".join(exports.json_chunks(None, *period)).count(container.id) == 1
    other = Tenant.objects.create(name="Other", slug="other")
    assert container.id not in "".join(exports.csv_rows(other, *period))


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        ("x", "2026-11-24", "start"),
        ("2026-11-23", "", "end"),
        ("2026-11-23T10:30", "2026-11-24", "start"),
        ("2026-11-24", "2026-11-24", "end"),
        ("0001-01-01T00:00+01:00", "2026-11-24", "start"),
    ],
)
def test_a_period_is_whole_hours(start: str, end: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        exports.period(start, end)
    assert caught.value.field == field
