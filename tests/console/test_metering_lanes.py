"""Many looks are taken in transactions side by side where the database gains by it: each once, none waits for another, none is lost to a fault."""

from __future__ import annotations

import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import ProtectedError, Sum

from console.accounts.models import Tenant
from console.metering import lanes, services
from console.metering.models import Allocation, Meter, MeterEpoch, Period, Reading, Resource, UsageRecord
from console.metering.services import epochs
from console.metering.services.months import Months
from console.metering.splitting import hour_of
from console.workloads.models import Container
from tests.console.test_metering import START
from tests.console.test_metering_bills import NEXT, published, use
from tests.console.test_metering_exports import CPU
from tests.console.test_metering_ingest import observed, rows

WITHIN_S = 30
pytestmark = pytest.mark.django_db(transaction=True)
beside = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer at a time")


@pytest.fixture
def containers(tenant: Tenant) -> list[Container]:
    rival = Tenant.objects.create(name="Rival", slug="rival")
    return [
        Container.objects.create(
            id=f"c{number}", tenant=rival if number % 3 else tenant, node="n", name=f"web-{number}", image_reference="x",
            memory_bytes=1 << 30, cpu_millis=1500,
        )
        for number in range(9)
    ]  # fmt: skip


def test_looks_in_many_transactions_are_each_taken_once(
    containers: list[Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two starts of one container may lie in two transactions."""
    monkeypatch.setattr(epochs, "AT_ONCE", 2)
    looks = [
        observed(one, seconds, cpu_ns=seconds * 10**6 + int(one.pk[1:]))
        for seconds in (30, 3000, 4000)
        for one in containers
    ]
    assert services.take([*looks, observed("nobody", 30, cpu_ns=1)]) == [observed("nobody", 30, cpu_ns=1)]
    found = rows()
    services.take(looks)
    assert rows() == found, "a replay changes nothing"
    cpu = UsageRecord.objects.filter(meter=Meter.CPU).values_list("epoch__container").annotate(sum=Sum("quantity"))
    assert dict(cpu) == {one.pk: 4000 * 10**6 + int(one.pk[1:]) for one in containers}


@beside
def test_parts_are_done_side_by_side_each_on_a_connection_of_its_own(db: None) -> None:
    both = threading.Barrier(lanes.LANES)

    def work(_part: int) -> int:
        both.wait(WITHIN_S)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        mine = cursor.fetchone()[0]
    assert len({mine, *lanes.run(work, range(lanes.LANES))}) == lanes.LANES + 1


def test_within_a_transaction_of_the_caller_s_they_are_part_of_it(tenant: Tenant) -> None:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        lanes.run(lambda number: Tenant.objects.create(name=f"t{number}", slug=f"t{number}"), range(4))
        raise ZeroDivisionError
    assert list(Tenant.objects.all()) == [tenant]


@beside
def test_an_error_ends_its_lane_and_is_raised_when_the_other_has_done_the_rest(db: None) -> None:
    done = []

    def work(part: int) -> None:
        if part == 0:
            raise IndexError("a fault of the work's own")
        done.append(part)

    with pytest.raises(IndexError, match="own"):
        lanes.run(work, range(10))
    assert done == list(range(1, 10))


@beside
def test_writers_of_a_month_do_not_wait_for_each_other_and_closing_waits_for_all(tenant: Tenant) -> None:
    hour = hour_of(START)
    with transaction.atomic():
        Months().period_id(tenant.pk, hour)

    def another() -> int:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{WITHIN_S}s'")
                return Months().period_id(tenant.pk, hour)
        finally:
            connection.close()

    def closing() -> Period:
        try:
            with transaction.atomic():
                return Period.objects.select_for_update(nowait=True).get()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            mine = Months().period_id(tenant.pk, hour)
            assert pool.submit(another).result() == mine
            with pytest.raises(OperationalError):
                pool.submit(closing).result()
        assert pool.submit(closing).result().pk == mine


def test_what_records_and_readings_refer_to_is_there_and_cannot_go(containers: list[Container]) -> None:
    """The database does not look it up for each of them."""
    services.hold_ports(containers[0], 2, START)
    services.take([observed(one, seconds, cpu_ns=seconds) for one in containers for seconds in (30, 4000)])
    use(containers[0])
    services.release_ports(containers[0], NEXT)
    services.close_lost("n", {}, NEXT)
    published(CPU)
    for model, names in (
        (UsageRecord, ("tenant", "epoch", "allocation", "resource", "billed_in")), (Reading, ("epoch",)),
    ):  # fmt: skip
        for name in names:
            refers = model.objects.filter(**{f"{name}_id__isnull": False})
            there = model._meta.get_field(name).related_model.objects.values("pk")
            assert refers.exists()
            assert not refers.exclude(**{f"{name}_id__in": there}).exists(), name
    for kept in (MeterEpoch, Resource, Allocation, Period):
        with pytest.raises(ProtectedError):
            kept.objects.filter(records__isnull=False)[:1].get().delete()


def test_ids_of_an_hour_follow_those_of_the_hour_before(containers: list[Container]) -> None:
    services.take([observed(one, seconds, cpu_ns=seconds) for one in containers for seconds in (30, 9000)])
    windows = list(UsageRecord.objects.order_by("pk").values_list("window", flat=True))
    assert len(set(windows)) > 1
    assert all(before <= after for before, after in itertools.pairwise(windows))
