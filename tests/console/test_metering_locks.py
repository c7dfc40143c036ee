"""On PostgreSQL many write at once: whoever locks several rows does so in one order, so nobody waits for each other in a circle."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pytest
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext

from console.accounts.models import Tenant, User
from console.core.errors import Invalid, NotAllowed
from console.metering import services
from console.metering.models import Allocation, Meter, MeterEpoch, Period, Reading, StaleDay, UsageRecord
from console.metering.services import allocations, epochs, periods, prices, resources
from console.metering.services.months import Months
from console.metering.services.prices import BookDraft
from console.metering.splitting import hour_of
from console.operations import services as operations
from console.operations.models import Operation
from console.workloads import services as workloads
from console.workloads.models import Container
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import act, engine, launched
from tests.console.test_metering import START, at, final
from tests.console.test_metering_bills import CPU, MONTH, NEXT
from tests.console.test_metering_ingest import observed

__all__ = ["engine"]
Result = TypeVar("Result")
WITHIN_S = 30
HOUR = dt.timedelta(hours=1)
LATER = START + 24 * HOUR
JANUARY = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
pytestmark = pytest.mark.django_db(transaction=True)
beside = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer at a time")


@contextmanager
def another() -> Iterator[Callable[[Callable[[], Result]], Future[Result]]]:
    """Somebody else, with a connection of their own."""

    def done(work: Callable[[], Result]) -> Result:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        yield lambda work: pool.submit(done, work)


def until_one_waits() -> None:
    deadline = time.monotonic() + WITHIN_S
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")
            if cursor.fetchone():
                return
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.01)


def lock(model: type[models.Model], pk: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{WITHIN_S}s'")
    model._default_manager.select_for_update().get(pk=pk)


@pytest.fixture
def container(tenant: Tenant) -> Container:
    return made(tenant, "c0")


def made(tenant: Tenant, id: str) -> Container:
    return Container.objects.create(
        id=id, tenant=tenant, node="n", name=id, image_reference="x", memory_bytes=1 << 30, cpu_millis=1500, disk_bytes=1 << 30
    )  # fmt: skip


def marks(found: CaptureQueriesContext) -> list[int]:
    """Where days were marked among what a transaction asked, from its end."""
    asked = [
        one["sql"]
        for one in found.captured_queries
        if one["sql"].split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE", "COPY"}
    ]
    return [number - len(asked) for number, sql in enumerate(asked) if f'INTO "{StaleDay._meta.db_table}"' in sql]


# ------------------------------------------------------------------------------------------------ epochs


@beside
def test_looking_for_lost_epochs_waits_for_no_look_at_those_that_run(container: Container) -> None:
    services.take([observed(container, 30, cpu_ns=1)])
    with another() as other, transaction.atomic():
        lock(MeterEpoch, MeterEpoch.objects.get().pk)
        assert other(lambda: services.close_lost("n", {container.pk: 1}, LATER)).result(WITHIN_S) == 0


@beside
def test_lost_epochs_are_locked_in_the_order_of_looks(tenant: Tenant) -> None:
    ids = sorted((f"c{number}" for number in range(9)), key=lambda id: epochs.epoch_id(id, 1))
    for id in reversed(ids):  # the table has the last first
        services.take([observed(made(tenant, id), 30, cpu_ns=1)])
    first, last = epochs.epoch_id(ids[0], 1), epochs.epoch_id(ids[-1], 1)
    with another() as other:
        with transaction.atomic():
            lock(MeterEpoch, first)
            closing = other(lambda: services.close_lost("n", {}, LATER))
            until_one_waits()
            lock(MeterEpoch, last)
        assert closing.result(WITHIN_S) == len(ids)


@beside
def test_an_epoch_that_ends_meanwhile_is_not_lost(container: Container) -> None:
    services.take([observed(container, 30, cpu_ns=1)])
    with another() as other:
        with transaction.atomic():
            services.ingest_final(final(container, at(40, cpu_ns=2)))
            closing = other(lambda: services.close_lost("n", {}, LATER))
            until_one_waits()
        assert closing.result(WITHIN_S) == 0
    assert not MeterEpoch.objects.get().lost


@beside
def test_a_first_look_while_the_worker_is_told_of_the_same_start(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look refers to the container's row, which the worker holds; the worker waits for the epoch, which the look begins."""
    container = launched(tenant, member)
    act(container, member, "stop")
    engine.start(container.id)
    status = engine.inspect(container.id)
    begun = threading.Event()

    def stored(_point: str) -> None:
        begun.set()
        until_one_waits()

    monkeypatch.setattr(epochs, "failpoint", stored)
    look = dataclasses.replace(observed(container, 30, cpu_ns=1), epoch=status.epoch)
    with another() as agent:
        looking = agent(lambda: services.take([look]))
        assert begun.wait(WITHIN_S)
        workloads.observe(status)
        assert looking.result(WITHIN_S) == []
    container.refresh_from_db()
    assert container.epoch == status.epoch
    assert MeterEpoch.objects.get(number=status.epoch).sequence == 1


@beside
def test_a_start_that_somebody_begins_and_looks_at_meanwhile(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look-up of the epochs that are there and the making of those that are not."""
    stored = threading.Event()
    only, mine = Container.objects.only, threading.get_ident()

    def hold(_point: str) -> None:
        if threading.get_ident() != mine and not stored.is_set():
            stored.set()
            until_one_waits()

    def meanwhile(*names: str) -> object:
        if threading.get_ident() == mine:
            other(lambda: services.take([observed(container, 30, cpu_ns=1)])).result(WITHIN_S)
            monkeypatch.setattr(epochs, "failpoint", hold)
            others.append(other(lambda: services.take([observed(container, 3700, cpu_ns=2)])))
            assert stored.wait(WITHIN_S)
        return only(*names)

    others: list[Future[object]] = []
    monkeypatch.setattr(Container.objects, "only", meanwhile)
    with another() as other:
        services.take([observed(container, 3800, cpu_ns=3)])
        others[0].result(WITHIN_S)
    assert MeterEpoch.objects.get().latest["values"]["cpu"] == 3
    said = Reading.objects.filter(meter=Meter.CPU).order_by("sequence")
    assert list(said.values_list("sequence", "value")) == [(1, 1), (2, 2)]


# ------------------------------------------------------------------------------------------------ allocations


@beside
def test_a_removal_while_what_is_held_is_charged(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its ports nothing is due, so the charge does not hold them."""
    hour = hour_of(dt.datetime.now(dt.UTC))
    services.hold_disk(container, hour - 3 * HOUR)
    services.hold_ports(container, 1, hour)
    charge, locked = allocations._charge, threading.Event()

    def slowly(found: list[Allocation], until: dt.datetime) -> None:
        if threading.current_thread() is not threading.main_thread():
            locked.set()
            until_one_waits()
        charge(found, until)

    monkeypatch.setattr(allocations, "_charge", slowly)
    with another() as schedule:
        charging = schedule(lambda: services.charge_allocations(hour))
        assert locked.wait(WITHIN_S)
        workloads.removed(container, actor=None)
        assert charging.result(WITHIN_S) == 1
    container.refresh_from_db()
    assert container.removed_at is not None
    assert {one.charged_to for one in Allocation.objects.all()} == {container.removed_at}
    assert not Allocation.objects.filter(ended_at__isnull=True).exists()


@beside
def test_what_one_thing_holds_is_locked_in_the_order_of_the_charge(container: Container) -> None:
    services.hold_disk(container, START)
    services.hold_ports(container, 1, START)
    for number, meter in enumerate((Meter.DISK_SIZE, Meter.PUBLISHED_PORT)):
        Allocation.objects.filter(meter=meter).update(id=f"{number}")

    @transaction.atomic
    def told() -> None:
        services.release_ports(container, START + HOUR)
        services.hold_disk(container, START)

    with another() as worker:
        with transaction.atomic():
            lock(Allocation, "0")
            telling = worker(told)
            until_one_waits()
            lock(Allocation, "1")
        telling.result(WITHIN_S)


def test_what_ends_together_is_charged_together_and_marked_last(container: Container) -> None:
    services.hold_disk(container, START)
    services.hold_ports(container, 1, START + HOUR)
    with CaptureQueriesContext(connection) as found:
        services.release_all(container, START + 2 * HOUR)
    assert marks(found) == [-1]
    assert not Allocation.objects.filter(ended_at__isnull=True).exists()
    assert held() == {Meter.DISK_SIZE: 2 * HOUR, Meter.PUBLISHED_PORT: HOUR}
    with CaptureQueriesContext(connection) as again:
        services.release_all(container, START + 3 * HOUR)
    assert marks(again) == []


def test_another_name_ends_and_begins_all_that_is_held_and_marks_last(container: Container) -> None:
    services.hold_disk(container, START)
    services.hold_ports(container, 2, START)
    container.name = "other"
    with CaptureQueriesContext(connection) as found:
        services.renamed(container, START + HOUR)
    assert marks(found) == [-1]
    assert held() == {Meter.DISK_SIZE: HOUR, Meter.PUBLISHED_PORT: HOUR}
    now = Allocation.objects.filter(ended_at__isnull=True)
    resource = resources.of_container(container).pk
    assert sorted(now.values_list("meter", "amount", "resource", "started_at")) == [
        (Meter.DISK_SIZE, 1 << 20, resource, START + HOUR), (Meter.PUBLISHED_PORT, 2, resource, START + HOUR),
    ]  # fmt: skip


def held() -> dict[str, dt.timedelta]:
    """How long each meter was charged."""
    found: dict[str, dt.timedelta] = {}
    for one in UsageRecord.objects.all():
        found[one.meter] = found.get(one.meter, dt.timedelta()) + (one.ends_at - one.starts_at)
    return found


def billed_in(tenant: Tenant, at: dt.datetime) -> dt.datetime:
    with transaction.atomic():
        return Period.objects.get(pk=Months().period_id(tenant.pk, at)).starts_at


@beside
def test_no_month_is_opened_behind_one_that_somebody_begins_to_close_meanwhile(tenant: Tenant) -> None:
    month = Period.objects.create(tenant=tenant, starts_at=NEXT, ends_at=JANUARY)
    with another() as begin:
        with transaction.atomic():
            assert periods._claim(month.pk, JANUARY) is None
            late = begin(lambda: billed_in(tenant, MONTH))
            until_one_waits()
        assert late.result(WITHIN_S) == JANUARY
    assert not Period.objects.filter(starts_at=MONTH).exists()


@beside
def test_a_month_is_not_closed_before_one_that_somebody_opens_behind_it_meanwhile(tenant: Tenant) -> None:
    month = Period.objects.create(tenant=tenant, starts_at=NEXT, ends_at=JANUARY)
    with another() as begin:
        with transaction.atomic():
            assert billed_in(tenant, MONTH) == MONTH
            closing = begin(lambda: periods._claim(month.pk, JANUARY))
            until_one_waits()
        with pytest.raises(NotAllowed, match="earlier"):
            closing.result(WITHIN_S)


@beside
def test_two_drafts_of_one_moment_are_two_versions(tenant: Tenant) -> None:
    for of in (None, tenant):
        with another() as begin:
            with transaction.atomic():
                prices.draft(BookDraft("EUR", MONTH, (CPU,)), of)
                drafting = begin(lambda of=of: prices.draft(BookDraft("EUR", NEXT, (CPU,)), of))  # type: ignore[misc]
                until_one_waits()
            assert drafting.result(WITHIN_S).version == 2


@beside
def test_a_book_is_not_published_for_a_month_that_somebody_begins_to_close_meanwhile(tenant: Tenant) -> None:
    month = Period.objects.create(tenant=tenant, starts_at=MONTH, ends_at=NEXT)
    book = prices.draft(BookDraft("EUR", MONTH, (CPU,)))
    with another() as begin:
        with transaction.atomic():
            assert periods._claim(month.pk, NEXT) is None
            publishing = begin(lambda: prices.publish(book.pk))
            until_one_waits()
        with pytest.raises(Invalid) as refused:
            publishing.result(WITHIN_S)
    assert refused.value.field == "valid_from"


@beside
def test_two_books_of_one_moment_have_one_currency(tenant: Tenant) -> None:
    """Before there is a month that both would wait for."""
    euros, dollars = (prices.draft(BookDraft(currency, MONTH, (CPU,))).pk for currency in ("EUR", "USD"))
    with another() as they:
        with transaction.atomic():
            prices.publish(euros)
            theirs = they(lambda: prices.publish(dollars))
            until_one_waits()
        with pytest.raises(Invalid) as refused:
            theirs.result(WITHIN_S)
    assert refused.value.field == "currency"


@beside
def test_an_operation_is_cancelled_while_a_worker_claims_it(tenant: Tenant, member: User) -> None:
    """A claim waits for the operation, and holds back no row that is its tenant's, as the audit log's is."""
    kind = Operation.Kind.PULL
    wanted = operations.submit(tenant=tenant, actor=member, kind=kind, node="n", request_key="k")
    with another() as worker:
        with transaction.atomic():
            Operation.objects.filter(pk=wanted.pk).update(stage="cancelled")
            claiming = worker(lambda: operations.claim(wanted.pk, "w"))
            until_one_waits()
            operations.cancel(wanted, actor=member)
        claimed = claiming.result(WITHIN_S)
    assert claimed is not None
    assert operations.is_cancelled(claimed)
