"""Disks and volumes are billed by their size for as long as they exist, used or not, running or not."""

from __future__ import annotations

import csv
import datetime as dt
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from console.accounts.models import Tenant, User
from console.core.errors import Invalid
from console.metering import services as metering
from console.metering.exports import bundle
from console.metering.exports.focus_check import faults
from console.metering.measuring import KIB, microseconds
from console.metering.models import Allocation, Meter, Resource, UsageRecord
from console.metering.selectors.spending import of_container, price
from console.metering.services import holdings, periods
from console.metering.services.prices import PriceDraft
from console.metering.services.rating import rate_period
from console.metering.splitting import HOUR, hour_of
from console.operations.models import Operation
from console.operations.reconciling import reconcile_rows
from console.workloads import services
from console.workloads.models import Container, Volume
from runtime.engines.fake.engine import FakeEngine
from runtime.validation_storage import MOST_DISK
from tests.console.launching import BUSYBOX, act, engine, launched
from tests.console.test_changes import renamed
from tests.console.test_metering import START
from tests.console.test_metering_bills import CPU, MONTH, NEXT, period, published
from tests.console.test_metering_exports import changed, consistent, differences
from tests.console.test_volumes import made, removed

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
GIB = 1 << 30
DISK = PriceDraft("DISK", "disk_size", "GiB-Seconds", (("0", "0.00001"),))
VOLUME = PriceDraft("VOL", "volume_size", "GiB-Seconds", (("0", "0.00002"),), included="10")


def with_disk(tenant: Tenant, member: User, size: int) -> Container:
    return launched(tenant, member, replace(BUSYBOX, disk_bytes=size))


def quantity(meter: Meter, **which: object) -> int:
    return UsageRecord.objects.filter(meter=meter, **which).aggregate(sum=Sum("quantity"))["sum"] or 0


def held(meter: Meter, identity: str) -> int:
    """By the allocations' own edges."""
    found = Allocation.objects.filter(meter=meter, identity=identity, ended_at__isnull=False)
    return sum(
        one.amount * (microseconds(one.ended_at) - microseconds(one.started_at)) for one in found if one.ended_at
    )


def test_a_disk_is_held_from_creation_to_removal_and_not_once_twice(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    container = with_disk(tenant, member, 2 * GIB)
    (disk,) = Allocation.objects.filter(meter=Meter.DISK_SIZE)
    created = engine.inspect(container.id).created_at
    assert (disk.amount, disk.started_at.timestamp()) == (2 * GIB // KIB, pytest.approx(created, abs=1e-5))
    act(container, member, "stop")
    act(container, member, "start")
    act(container, member, "stop")
    metering.charge_allocations(timezone.now() + 2 * HOUR)
    assert quantity(Meter.DISK_SIZE) > 0, "a stopped container has its disk"
    disk.refresh_from_db()
    assert disk.ended_at is None
    act(container, member, "remove")
    disk.refresh_from_db()
    assert disk.ended_at is not None
    assert Allocation.objects.filter(meter=Meter.DISK_SIZE).count() == 1
    assert quantity(Meter.DISK_SIZE) == held(Meter.DISK_SIZE, container.pk) > 0


def test_a_container_without_a_limit_has_no_disk_to_bill(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    act(launched(tenant, member), member, "remove")
    assert not Allocation.objects.filter(meter=Meter.DISK_SIZE).exists()


def test_a_volume_is_held_while_the_node_has_it(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    sized, free = made(tenant, member, "sized", 3 * GIB), made(tenant, member, "free", None)
    (row,) = Allocation.objects.filter(meter=Meter.VOLUME_SIZE)
    assert (row.identity, row.amount, row.resource.kind) == (sized.pk, 3 * GIB // KIB, Resource.Kind.VOLUME)
    assert row.started_at - sized.made_at < dt.timedelta(seconds=5)  # type: ignore[operator]
    metering.charge_allocations(timezone.now() + HOUR)
    reconcile_rows(engine)
    for volume in (sized, free):
        assert removed(volume, member).state == "succeeded"
    assert quantity(Meter.VOLUME_SIZE) == held(Meter.VOLUME_SIZE, sized.pk) > 0
    assert not Allocation.objects.filter(ended_at__isnull=True).exists()


def test_the_largest_volume_is_billed_and_a_larger_one_is_refused(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    """Its hour would not fit the 64 bits of a record, and nobody's bill could be made any more."""
    with pytest.raises(Invalid) as refused:
        made(tenant, member, "larger", MOST_DISK + 1)
    assert refused.value.field == "size"
    volume = Volume.objects.create(tenant=tenant, node="node", name="largest", size_bytes=MOST_DISK)
    holdings.hold_volume(volume, START)
    metering.charge_allocations(START + 30 * HOUR)
    of_an_hour = UsageRecord.objects.filter(starts_at=hour_of(START + HOUR))
    assert of_an_hour.get().quantity == MOST_DISK // KIB * 3600 * 10**6


def test_a_volume_that_was_lost_costs_nothing_until_it_is_there_again(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    volume = made(tenant, member, "data", GIB)
    Operation.objects.update(finished_at=timezone.now() - HOUR)
    spec = services.volume_spec(volume)
    engine.volumes.remove(tenant.id, "data")
    reconcile_rows(engine)
    volume.refresh_from_db()
    assert volume.state == Volume.State.LOST
    assert not Allocation.objects.filter(ended_at__isnull=True).exists()
    engine.volumes.create(spec)
    reconcile_rows(engine)
    first, second = Allocation.objects.order_by("started_at")
    assert first.ended_at is not None
    assert first.ended_at <= second.started_at
    assert second.ended_at is None


def test_a_container_that_was_lost_and_found_is_held_from_where_it_ended(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    """Told again with the instants of before, and yet no time is billed twice: of its disk and of its ports."""
    container = with_disk(tenant, member, GIB)
    begun = container.started_at
    assert begun is not None
    for hold, release, meter in (
        (metering.hold_disk, metering.release_all, Meter.DISK_SIZE),
        (lambda one, at: metering.hold_ports(one, 2, at), metering.release_ports, Meter.PUBLISHED_PORT),
    ):
        hold(container, begun)
        release(container, begun + HOUR)
        hold(container, begun)
        again = Allocation.objects.get(identity=container.pk, meter=meter, ended_at__isnull=True)
        assert again.started_at == begun + HOUR


def test_a_rename_moves_what_is_held_at_its_instant(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = with_disk(tenant, member, GIB)
    before = container.name
    assert renamed(container, member, "elsewhere").state == "succeeded"
    metering.renamed(container, timezone.now())
    act(container, member, "remove")
    first, second = Allocation.objects.filter(meter=Meter.DISK_SIZE).order_by("started_at")
    assert [first.resource.name, second.resource.name] == [before, "elsewhere"]
    assert first.ended_at == second.started_at
    assert held(Meter.DISK_SIZE, container.pk) == quantity(Meter.DISK_SIZE)


def test_two_names_in_one_instant_leave_no_empty_holding(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = with_disk(tenant, member, GIB)
    (row,) = Allocation.objects.filter(meter=Meter.DISK_SIZE)
    container.name = "second"
    metering.renamed(container, row.started_at)
    metering.renamed(container, row.started_at)
    (row,) = Allocation.objects.filter(meter=Meter.DISK_SIZE)
    assert row.resource.name == "second"


@pytest.fixture
def billed(tenant: Tenant, tmp_path: Path) -> Path:
    container = Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1, cpu_millis=1, disk_bytes=4 * GIB
    )
    volume = Volume.objects.create(tenant=tenant, node="n", name="data", size_bytes=2 * GIB)
    metering.hold_disk(container, START)
    metering.hold_volume(volume, START + HOUR / 7)
    metering.charge_allocations(START + 2 * HOUR)
    metering.release_all(container, START + 3 * HOUR)
    metering.release_volume(volume, START + 4 * HOUR)
    published(CPU, DISK, VOLUME)
    return tmp_path / "november"


def test_storage_is_priced_in_focus_and_recomputed(billed: Path) -> None:
    invoice = periods.close(period().pk, NEXT)
    us = microseconds(START + 4 * HOUR) - microseconds(START + HOUR / 7)
    seconds = Decimal(us) / 10**6
    expected = 4 * 3 * 3600 * Decimal("0.00001") + (2 * seconds - 10) * Decimal("0.00002")
    assert invoice.charges == expected
    bundle.write(period(), billed)
    assert differences(billed) == []
    for version in ("1.2", "1.3"):
        assert list(faults((billed / f"focus-{version}.csv").open(newline=""), version)) == []
    rows = list(csv.DictReader((billed / "focus-1.3.csv").open(newline="")))
    storage = {(row["ServiceCategory"], row["ServiceSubcategory"], row["ResourceType"], row["SkuId"]) for row in rows
               if row["ChargeCategory"] == "Usage"}  # fmt: skip
    assert storage == {
        ("Storage", "Block Storage", "Container", "DISK"), ("Storage", "Block Storage", "Volume", "VOL"),
    }  # fmt: skip
    changed(billed, "allocations.jsonl", lambda one: one["meter"] == "disk_size", amount=1)
    consistent(billed)
    assert any(one.startswith("records") for one in differences(billed))


def test_what_a_launch_would_hold_is_in_its_price(tenant: Tenant) -> None:
    published(DISK, VOLUME)
    found = price(tenant, MONTH, memory_bytes=1, cpu_millis=1, ports=0, disk_bytes=5 * GIB, volume_bytes=GIB)
    assert found is not None
    assert found.hour == 5 * 3600 * Decimal("0.00001") + (3600 - 10) * Decimal("0.00002")
    assert found.on_top == ()


def test_the_explorer_and_a_container_s_own_cost_have_its_disk(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    published(DISK, VOLUME, valid_from=MONTH.replace(year=2020))
    container = with_disk(tenant, member, GIB)
    volume = made(tenant, member, "data", GIB)
    now = timezone.now()
    metering.charge_allocations(now + HOUR)
    rate_period(UsageRecord.objects.latest("window").billed_in_id)
    cost = of_container(container, now)
    assert cost is not None
    exact = Decimal(quantity(Meter.DISK_SIZE)) / (1 << 20) / 10**6 * Decimal("0.00001")
    assert abs(cost.so_far - exact) < Decimal("1e-9"), "the page's sums are of billionths"
    assert cost.hourly == Decimal("0.00001") * 3600
    browser = Client()
    browser.force_login(member)
    for meter, name in (("disk_size", container.name), ("volume_size", volume.name)):
        page = browser.get(f"/usage/?what={meter}").content.decode()
        assert name in page
    records = browser.get(f"/usage/records/?container={volume.pk}&from={now - HOUR:%Y-%m-%dT%H:00}").content.decode()
    assert "data" in records
