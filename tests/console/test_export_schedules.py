"""Scheduled exports: into a real folder, whole, the same bytes each time, the manifest last; nothing outside what an admin allows."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from django.test import Client

from console.accounts.models import AuditEvent, Tenant, User
from console.core.errors import Full, Invalid, Missing, NotAllowed
from console.metering import services as metering
from console.metering.exports import folder as folders
from console.metering.exports.focus_check import faults
from console.metering.exports.focus_check_invoice import faults as invoice_faults
from console.metering.models import ExportDelivery, ExportSchedule, Meter, Period, Reading, UsageRecord
from console.metering.selectors.exports import due_since
from console.metering.services import export_deliveries as deliveries
from console.metering.services import exports, periods
from console.metering.services.exports import Wish
from console.metering.services.prices import PriceDraft
from console.metering.services.rating import rate_period
from console.metering.spool import Spool
from console.metering.units import total
from console.workloads.models import Container
from tests.console.test_metering import START, at, final
from tests.console.test_metering_bills import CPU, LATER, MEMORY, NEXT, OUT, period, published
from tests.console.test_metering_ingest import killed, observed

pytestmark = pytest.mark.django_db
DAY = dt.timedelta(days=1)
TODAY = START.replace(hour=0, minute=0, second=0, microsecond=0)
AFTER = TODAY + DAY + dt.timedelta(hours=1, minutes=1)
ALL_OF_IT = ("usage-csv", "usage-jsonl", "usage-parquet", "focus", "readings")
State = ExportDelivery.State


@pytest.fixture
def root(tmp_path: Path, settings: object) -> Path:
    made = tmp_path / "finance"
    made.mkdir()
    settings.EXPORT_ROOTS = [str(made)]  # type: ignore[attr-defined]
    settings.HOME = tmp_path / "home"  # type: ignore[attr-defined]
    return made


@pytest.fixture
def container(tenant: Tenant) -> Container:
    published(CPU, MEMORY, OUT)
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500
    )


def used(container: Container) -> None:
    metering.take([observed(container, 60 * n, cpu_ns=n * 10**9, net_tx_bytes=n * 10**7) for n in range(1, 90)])
    metering.ingest_final(final(container, at(5600, cpu_ns=10**11, net_tx_bytes=10**9)))


def wish(root: Path | str = "", **more: object) -> Wish:
    plain = Wish("For finance", ("usage-csv",), "day", "1", "folder", folder="a/b", root=str(root))
    return replace(plain, **more)  # type: ignore[arg-type]


def scheduled(tenant: Tenant | None, actor: User, wanted: Wish, since: dt.datetime = TODAY) -> ExportSchedule:
    made = exports.add(tenant=tenant, actor=actor, wish=wanted)
    ExportSchedule.objects.filter(pk=made.pk).update(created_at=since)
    return ExportSchedule.objects.get(pk=made.pk)


def delivered(schedule: ExportSchedule) -> ExportDelivery:
    found = schedule.deliveries.get()
    assert (found.state, found.error) == (State.DELIVERED, "")
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_day_is_exported_once_it_has_ended_and_each_time_the_same(
    container: Container, owner: User, tenant: Tenant, root: Path
) -> None:
    used(container)
    schedule = scheduled(tenant, owner, wish(root, contents=ALL_OF_IT))
    assert deliveries.deliver_due(AFTER - dt.timedelta(minutes=2)) == 0
    assert deliveries.deliver_due(AFTER) == 1
    one = delivered(schedule)
    folder = root / tenant.pk / "a/b" / f"{TODAY:%Y-%m-%d}"
    found = files(root)
    assert set(files(folder)) == {
        "usage.csv", "usage.jsonl", "usage.parquet", "focus-1.3.csv", "focus-1.3.parquet", "focus-1.3-schema.json",
        "readings.jsonl", "epochs.jsonl", "manifest.json",
    }  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, content in files(folder).items():
        if name != "manifest.json":
            assert manifest["files"][name] == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert hashlib.sha256(found[f"{tenant.pk}/a/b/{TODAY:%Y-%m-%d}/manifest.json"]).hexdigest() == one.sha256
    assert one.bytes == sum(len(content) for name, content in files(folder).items() if name != "manifest.json")
    assert deliveries.deliver_due(AFTER) == 0, "once is enough"
    exports.run_now(schedule=schedule, actor=owner, now=AFTER)
    assert deliveries.deliver_due(AFTER) == 1
    assert files(root) == found
    assert not list((Path(root).parent / "home/exports").glob("*"))


def test_a_day_that_is_exported_again_after_a_rename_is_the_same(
    container: Container, owner: User, tenant: Tenant, root: Path
) -> None:
    """It has the name and the image that were metered, the last of them where there were two."""
    metering.take([observed(container, 60 * n, cpu_ns=n * 10**9) for n in range(1, 70)])
    Container.objects.filter(pk=container.pk).update(name="shop")
    container.refresh_from_db()
    metering.take([observed(container, 60 * n, cpu_ns=n * 10**9) for n in range(70, 130)])
    metering.ingest_final(final(container, at(8000, cpu_ns=10**12)))
    schedule = scheduled(tenant, owner, wish(root, contents=ALL_OF_IT))
    deliveries.deliver_due(AFTER)
    found = files(root)
    Container.objects.filter(pk=container.pk).update(name="atelier", image_reference="y")
    exports.run_now(schedule=schedule, actor=owner, now=AFTER)
    deliveries.deliver_due(AFTER)
    assert files(root) == found
    rows = csv.DictReader((root / tenant.pk / "a/b" / f"{TODAY:%Y-%m-%d}" / "usage.csv").open(newline=""))
    assert [(row["container_name"], row["image"]) for row in rows] == [
        ("web", "x"),
        ("web", "x"),
        ("shop", "x"),
        ("shop", "x"),
    ]


def test_what_is_in_the_files_is_what_was_metered(
    container: Container, owner: User, tenant: Tenant, root: Path
) -> None:
    used(container)
    scheduled(tenant, owner, wish(root, contents=ALL_OF_IT, folder=""))
    deliveries.deliver_due(AFTER)
    folder = root / tenant.pk / f"{TODAY:%Y-%m-%d}"
    cpu = sum(UsageRecord.objects.filter(meter=Meter.CPU).values_list("quantity", flat=True))
    rows = list(csv.DictReader((folder / "usage.csv").open(newline="")))
    lines = [json.loads(line) for line in (folder / "usage.jsonl").read_text().splitlines()]
    table = pq.read_table(folder / "usage.parquet").to_pylist()
    hours = UsageRecord.objects.values("window").distinct().count()
    assert len(rows) == len(lines) == len(table) == hours > 1
    for found in (rows, lines, table):
        assert sum(Decimal(row["vcpu_seconds"]) for row in found) == Decimal(cpu) / 10**9
        assert [row["quality"] for row in found] == [row["quality"] for row in rows]
    assert [row["period_start"] for row in rows] == [f"{row['period_start']:%Y-%m-%dT%H:%M:%SZ}" for row in table]
    charges = (folder / "focus-1.3.csv").open(newline="")
    assert list(faults(charges, "1.3")) == []
    billed = [Decimal(row["BilledCost"]) for row in csv.DictReader((folder / "focus-1.3.csv").open(newline=""))]
    assert total(*billed) == period().run.total  # type: ignore[union-attr]
    readings = (folder / "readings.jsonl").read_text().splitlines()
    assert len(readings) == Reading.objects.filter(at__gte=TODAY, at__lt=TODAY + DAY).count() > 0
    assert [json.loads(line)["container"] for line in (folder / "epochs.jsonl").read_text().splitlines()] == [
        container.pk
    ]


def test_while_one_is_made_the_page_says_that_and_of_no_pause(
    container: Container, owner: User, tenant: Tenant, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said that it had been tried and would be again in ten minutes: the lease of who was at it."""
    used(container)
    schedule = scheduled(tenant, owner, wish(root))
    assert deliveries.plan(AFTER) == 1
    schedule.deliveries.update(attempts=1, error="The store cannot be reached.")
    client, pages, make = Client(), list[str](), deliveries._deliver
    client.force_login(owner)

    def watched(delivery: ExportDelivery) -> deliveries.Made:
        pages.append(client.get(f"/usage/exports/{schedule.pk}/").content.decode())
        return make(delivery)

    monkeypatch.setattr(deliveries, "_deliver", watched)
    assert deliveries.deliver_due(AFTER) == 1
    assert "being made" in pages[0]
    assert "data-waits" in pages[0]
    assert not any(word in pages[0] for word in ("tried", "The store cannot be reached."))
    assert "data-waits" not in client.get(f"/usage/exports/{schedule.pk}/").content.decode()
    delivered(schedule)


def test_a_month_of_charges_waits_until_it_is_closed(
    container: Container, owner: User, tenant: Tenant, root: Path
) -> None:
    used(container)
    schedule = scheduled(tenant, owner, wish(root, contents=("focus",), every="month"))
    due = NEXT + dt.timedelta(hours=1)
    assert deliveries.deliver_due(due) == 1
    waiting = schedule.deliveries.get()
    assert (waiting.state, waiting.attempts) == (State.WAITING, 1)
    assert waiting.error == "The month is not closed yet: its charges can still change."
    assert deliveries.deliver_due(due) == 0, "not before its pause is over"
    periods.close(period().pk, due)
    assert deliveries.deliver_due(due + deliveries.LONGEST_PAUSE) == 1
    delivered(schedule)
    folder = root / tenant.pk / "a/b" / "2026-11"
    detail = (folder / "focus-1.4-invoice-detail.csv").open(newline="")
    assert list(invoice_faults(detail, "InvoiceDetail")) == []
    rows = csv.DictReader((folder / "focus-1.3.csv").open(newline=""))
    assert total(*(Decimal(row["BilledCost"]) for row in rows)) == period().invoice.payable


def test_what_is_not_all_known_yet_waits(container: Container, owner: User, tenant: Tenant, root: Path) -> None:
    metering.take([observed(container, 60, cpu_ns=5)])
    schedule = scheduled(tenant, owner, wish(root))
    deliveries.deliver_due(AFTER)
    assert "web" in schedule.deliveries.get().error
    assert not files(root)
    seconds = (TODAY + DAY - START).total_seconds() + 1
    metering.take([observed(container, seconds, cpu_ns=9)])
    deliveries.deliver_due(AFTER + deliveries.LONGEST_PAUSE)
    delivered(schedule)


def test_what_is_held_is_charged_to_the_end_of_the_day_before_its_charges_leave(
    container: Container, owner: User, tenant: Tenant, root: Path
) -> None:
    """The schedule's turn comes each ten minutes, and an export may be due just after midnight."""
    ports = PriceDraft("PORT", "published_port", "Port-Seconds", (("0", "0.001"),))
    published(CPU, MEMORY, OUT, ports)
    metering.hold_ports(container, 1, START)
    metering.charge_allocations(TODAY + DAY - dt.timedelta(minutes=5))
    schedule = scheduled(tenant, owner, wish(root, contents=("focus",), hour="0"))
    just_after = TODAY + DAY + dt.timedelta(seconds=30)
    deliveries.deliver_due(just_after)
    assert schedule.deliveries.get().error.startswith("Something that is held over time")
    assert not files(root)
    metering.charge_allocations(just_after)
    deliveries.deliver_due(just_after + deliveries.LONGEST_PAUSE)
    delivered(schedule)
    rows = csv.DictReader((root / tenant.pk / "a/b" / f"{TODAY:%Y-%m-%d}" / "focus-1.3.csv").open(newline=""))
    seconds = int((TODAY + DAY - START).total_seconds())
    assert total(*(Decimal(row["BilledCost"]) for row in rows)) == seconds * Decimal("0.001")


def test_a_month_of_all_tenants_has_invoices_without_usage_of_that_month(
    container: Container, admin: User, tenant: Tenant, root: Path
) -> None:
    """Corrections of an earlier month are all that this one has."""
    used(container)
    first = period()
    periods.close(first.pk, NEXT)
    metering.ingest_final(final(container, at(5600, cpu_ns=10**12), epoch=2))
    periods.close(period(NEXT).pk, LATER)
    schedule = scheduled(None, admin, wish(root, contents=("focus",), every="month"), since=NEXT)
    deliveries.deliver_due(LATER + dt.timedelta(hours=1, minutes=1))
    delivered(schedule)
    (found,) = root.rglob("focus-1.3.csv")
    rows = list(csv.DictReader(found.open(newline="")))
    assert {row["ChargeClass"] for row in rows} == {"Correction", ""}
    assert total(*(Decimal(row["BilledCost"]) for row in rows)) == period(NEXT).invoice.payable > 0


def test_what_waits_on_the_node_for_the_database_is_waited_for(
    container: Container, owner: User, tenant: Tenant, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(container)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "node"))
    spool = Spool(tmp_path / "node/runtime/spool")
    spool.append([{"not": "taken"}])
    schedule = scheduled(tenant, owner, wish(root))
    deliveries.deliver_due(AFTER)
    assert schedule.deliveries.get().error == "The node has readings that the database has not taken in yet."
    spool.drain(lambda _found: None)
    deliveries.deliver_due(AFTER + deliveries.LONGEST_PAUSE)
    delivered(schedule)
    spool.append([{"cut": "short, so nobody takes it"}])
    exports.run_now(schedule=schedule, actor=owner, now=AFTER)
    schedule.deliveries.update(attempts=deliveries.PATIENT_ATTEMPTS)
    deliveries.deliver_due(AFTER)
    delivered(schedule)


def test_charges_of_a_day_have_what_came_after_the_last_rating(
    container: Container, owner: User, tenant: Tenant, root: Path
) -> None:
    """That one may have been made a moment after the day's end, before its last readings were taken in."""
    metering.take([observed(container, 60 * n, cpu_ns=n * 10**9) for n in range(1, 30)])
    rate_period(period().pk)
    Period.objects.get().runs.update(created_at=AFTER)
    metering.ingest_final(final(container, at(5600, cpu_ns=10**13, net_tx_bytes=10**9)))
    scheduled(tenant, owner, wish(root, contents=("focus",)))
    deliveries.deliver_due(AFTER)
    path = root / tenant.pk / "a/b" / f"{TODAY:%Y-%m-%d}" / "focus-1.3.csv"
    rows = list(csv.DictReader(path.open(newline="")))
    cpu = total(*(Decimal(row["ConsumedQuantity"]) for row in rows if row["SkuId"] == "CPU"))
    assert cpu == Decimal(10**13) / 10**9


def test_charges_of_a_day_whose_month_is_just_being_closed_wait_for_that(
    container: Container, owner: User, tenant: Tenant, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rating that counts is then one from before, and another a moment later."""
    used(container)
    schedule = scheduled(tenant, owner, wish(root, contents=("focus",)))
    rated = deliveries.carry_on

    def overtaken(period_id: int) -> None:
        Period.objects.filter(pk=period_id).update(state=Period.State.CLOSING)
        raise NotAllowed("it is being closed")

    monkeypatch.setattr(deliveries, "carry_on", overtaken)
    deliveries.deliver_due(AFTER)
    waiting = schedule.deliveries.get()
    assert waiting.state == State.WAITING
    assert "not closed yet" in waiting.error
    monkeypatch.setattr(deliveries, "carry_on", rated)
    periods.close(period().pk, NEXT)
    deliveries.deliver_due(AFTER + DAY)
    assert schedule.deliveries.get(starts_at=TODAY).state == State.DELIVERED


def test_all_tenants_are_in_folders_of_their_own(
    container: Container, admin: User, outsider: User, root: Path, tenant: Tenant
) -> None:
    used(container)
    other = Tenant.objects.get(slug="other")
    used(
        Container.objects.create(
            tenant=other, node="n", name="db", image_reference="x", memory_bytes=1 << 30, cpu_millis=1
        )
    )
    schedule = scheduled(None, admin, wish(root))
    deliveries.deliver_due(AFTER)
    delivered(schedule)
    top = root / "all/a/b" / f"{TODAY:%Y-%m-%d}"
    assert set(files(top)) == {f"{tenant.pk}/usage.csv", f"{other.pk}/usage.csv", "manifest.json"}
    assert b"web" not in (top / other.pk / "usage.csv").read_bytes()


def test_whoever_it_is_a_tenant_writes_below_its_own_folder_alone(
    container: Container, owner: User, outsider: User, tenant: Tenant, root: Path
) -> None:
    used(container)
    for bad in ("../x", "a/../../x", "/etc/..", ".hidden", "a//b", "a b", "a/" * 9 + "a", "x" * 201):
        with pytest.raises(Invalid) as caught:
            exports.add(tenant=tenant, actor=owner, wish=wish(root, folder=bad))
        assert caught.value.field == "folder"
    with pytest.raises(Invalid) as caught:
        exports.add(tenant=tenant, actor=owner, wish=wish("/etc"))
    assert caught.value.field == "root"
    assert not ExportSchedule.objects.exists()


@pytest.mark.parametrize("what", ["folder", "file"])
def test_no_link_is_followed_out_of_the_root(
    container: Container, owner: User, tenant: Tenant, root: Path, tmp_path: Path, what: str
) -> None:
    used(container)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "usage.csv").write_text("precious")
    folder = root / tenant.pk / "a/b" / f"{TODAY:%Y-%m-%d}"
    folder.parent.mkdir(parents=True)
    if what == "folder":
        folder.symlink_to(outside)
    else:
        folder.mkdir()
        (folder / "usage.csv").symlink_to(outside / "usage.csv")
    schedule = scheduled(tenant, owner, wish(root))
    deliveries.deliver_due(AFTER)
    assert (outside / "usage.csv").read_text() == "precious"
    assert [path.name for path in outside.iterdir()] == ["usage.csv"]
    if what == "folder":
        assert schedule.deliveries.get().state == State.GIVEN_UP
        assert "link" in schedule.deliveries.get().error
    else:
        delivered(schedule)
        assert not (folder / "usage.csv").is_symlink()


def test_a_folder_that_is_no_longer_allowed_gets_nothing(
    container: Container, owner: User, tenant: Tenant, root: Path, settings: object
) -> None:
    used(container)
    schedule = scheduled(tenant, owner, wish(root))
    settings.EXPORT_ROOTS = []  # type: ignore[attr-defined]
    deliveries.deliver_due(AFTER)
    found = schedule.deliveries.get()
    assert (found.state, found.error) == (State.GIVEN_UP, "The node's admin no longer allows exports to this folder.")
    assert not files(root)


def test_a_disk_that_is_not_mounted_or_full_is_tried_again(
    container: Container, owner: User, tenant: Tenant, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(container)
    schedule = scheduled(tenant, owner, wish(root))
    os.rename(root, root.with_name("away"))
    deliveries.deliver_due(AFTER)
    assert "mounted" in schedule.deliveries.get().error
    os.rename(root.with_name("away"), root)
    monkeypatch.setattr(folders, "_refuse_full", _full(folders._refuse_full))
    now = AFTER + deliveries.LONGEST_PAUSE
    deliveries.deliver_due(now)
    assert schedule.deliveries.get().error == "The disk of the folder is nearly full."
    monkeypatch.undo()


def _full(look: Callable[[int, int], None]) -> Callable[[int, int], None]:
    return lambda root, size: look(root, size + (1 << 60))


def test_what_is_made_belongs_to_the_roots_owner(container: Container, owner: User, tenant: Tenant, root: Path) -> None:
    used(container)
    os.chown(root, 4711, 4712)
    scheduled(tenant, owner, wish(root))
    deliveries.deliver_due(AFTER)
    for path in root.rglob("*"):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (4711, 4712), path
        assert not found.st_mode & 0o007


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", ["export.stored", "export.manifest"])
def test_a_kill_leaves_no_manifest_before_its_files_and_the_next_try_makes_the_same(
    container: Container, owner: User, tenant: Tenant, root: Path, point: str
) -> None:
    used(container)
    schedule = scheduled(tenant, owner, wish(root, contents=("usage-csv", "usage-jsonl", "readings")))
    killed(lambda: deliveries.deliver_due(AFTER), point)
    folder = root / tenant.pk / "a/b" / f"{TODAY:%Y-%m-%d}"
    assert (folder / "manifest.json").exists() == (point == "export.manifest")
    if point == "export.manifest":
        named = json.loads((folder / "manifest.json").read_text())["files"]
        assert set(named) <= {path.name for path in folder.iterdir()}
    (folder / ".usage.csv.dead.part").write_text("half")
    found = schedule.deliveries.get()
    assert found.state == State.WAITING
    assert deliveries.deliver_due(AFTER) == 0, "its lease is not over"
    assert deliveries.deliver_due(AFTER + deliveries.LEASE) == 1
    delivered(schedule)
    assert {path.name for path in folder.iterdir()} == {
        "usage.csv", "usage.jsonl", "readings.jsonl", "epochs.jsonl", "manifest.json",
    }  # fmt: skip


def test_it_is_given_up_after_many_tries_and_a_person_can_ask_again(
    container: Container, owner: User, tenant: Tenant, root: Path
) -> None:
    metering.take([observed(container, 60, cpu_ns=5)])
    schedule = scheduled(tenant, owner, wish(root))
    now = AFTER
    for _ in range(deliveries.MOST_ATTEMPTS):
        assert deliveries.deliver_due(now) >= 1
        now += deliveries.LONGEST_PAUSE
        ExportDelivery.objects.exclude(starts_at=TODAY).delete()
    found = schedule.deliveries.get(starts_at=TODAY)
    assert (found.state, found.attempts) == (State.GIVEN_UP, deliveries.MOST_ATTEMPTS)
    again = exports.run_now(schedule=schedule, actor=owner, period=f"{TODAY:%Y-%m-%d}", now=now)
    assert (again.pk, again.state, again.attempts) == (found.pk, State.WAITING, 0)


def test_a_pause_is_made_up_for_and_pauses_grow(container: Container, owner: User, tenant: Tenant, root: Path) -> None:
    used(container)
    schedule = scheduled(tenant, owner, wish(root))
    exports.set_paused(schedule=schedule, actor=owner, paused=True)
    assert deliveries.deliver_due(AFTER + 3 * DAY) == 0
    exports.set_paused(schedule=schedule, actor=owner, paused=False)
    assert deliveries.deliver_due(AFTER + 3 * DAY) == 4
    assert list(due_since(schedule, AFTER + 3 * DAY)) == []
    pauses = [deliveries.pause(n) for n in range(1, 100)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == deliveries.LONGEST_PAUSE


def test_asking_for_the_last_period_leaves_out_none_before_it(
    container: Container, owner: User, tenant: Tenant, root: Path
) -> None:
    """The schedule looks each minute, and somebody asks before it has."""
    used(container)
    schedule, now = scheduled(tenant, owner, wish(root)), AFTER + 3 * DAY
    exports.set_paused(schedule=schedule, actor=owner, paused=True)
    exports.set_paused(schedule=schedule, actor=owner, paused=False)
    exports.run_now(schedule=ExportSchedule.objects.get(), actor=owner, now=now)
    assert deliveries.deliver_due(now) == 4
    days = list(
        schedule.deliveries.filter(state=State.DELIVERED).order_by("starts_at").values_list("starts_at", flat=True)
    )
    assert days == [TODAY + number * DAY for number in range(4)]


def test_a_tenant_s_many_exports_do_not_keep_another_s_waiting(
    owner: User, outsider: User, tenant: Tenant, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve are due of one, all before the two of another: they take turns, and the other's second is the fourth of all."""
    rival, order = Tenant.objects.get(slug="other"), []
    tried = deliveries._deliver

    def noted(delivery: ExportDelivery) -> object:
        order.append((delivery.schedule.tenant, delivery.starts_at))
        return tried(delivery)

    monkeypatch.setattr(deliveries, "_deliver", noted)
    for name in ("a", "b", "c"):
        scheduled(tenant, owner, wish(root, folder=name))
    assert deliveries.plan(AFTER + 3 * DAY) == 12
    scheduled(rival, outsider, wish(root), since=TODAY + 2 * DAY)
    assert deliveries.deliver_due(AFTER + 3 * DAY) == 14
    assert [whose for whose, _day in order] == [tenant, rival] * 2 + [tenant] * 10
    assert ExportDelivery.objects.filter(state=State.DELIVERED).count() == 14


def test_months_follow_each_other(owner: User, tenant: Tenant, root: Path) -> None:
    schedule = scheduled(tenant, owner, wish(root, every="month", hour="5"))
    found = list(due_since(schedule, NEXT.replace(year=2027, month=2, hour=4)))
    assert [start.month for start, _end in found] == [11, 12]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"contents": ()}, "contents"),
        ({"contents": ("secrets",)}, "contents"),
        ({"every": "hour"}, "every"),
        ({"hour": "24"}, "hour"),
        ({"hour": "-1"}, "hour"),
        ({"hour": "²"}, "hour"),
        ({"place": "ftp"}, "place"),
        ({"root": "/"}, "root"),
        ({"root": ""}, "root"),
    ],
)
def test_what_makes_no_export_is_refused_by_its_field(
    owner: User, tenant: Tenant, root: Path, change: dict[str, object], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        exports.add(tenant=tenant, actor=owner, wish=replace(wish(root), **change))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert not ExportSchedule.objects.exists()
    client = Client()
    client.force_login(owner)
    form = {"name": "n", "contents": ["usage-csv"], "every": "day", "hour": "1", "place": "folder", "root": str(root)}
    answer = client.post("/usage/exports/add/", {**form, **change})
    assert answer.status_code == 422
    assert f'id="{field}"' in answer.content.decode()


def test_one_place_has_one_export_and_a_tenant_only_so_many(
    owner: User, admin: User, tenant: Tenant, root: Path
) -> None:
    exports.add(tenant=tenant, actor=owner, wish=wish(root))
    exports.add(tenant=None, actor=admin, wish=wish(root))
    for whose, actor in ((tenant, owner), (None, admin)):
        with pytest.raises(Invalid) as caught:
            exports.add(tenant=whose, actor=actor, wish=wish(root))
        assert caught.value.field == "folder"
    for number in range(exports.MOST - 1):
        exports.add(tenant=tenant, actor=owner, wish=wish(root, folder=f"f{number}"))
    with pytest.raises(Full):
        exports.add(tenant=tenant, actor=owner, wish=wish(root, folder="more"))


def test_owners_set_it_up_and_members_and_outsiders_do_not(
    owner: User, member: User, outsider: User, tenant: Tenant, root: Path
) -> None:
    with pytest.raises(NotAllowed):
        exports.add(tenant=tenant, actor=member, wish=wish(root))
    with pytest.raises(Missing):
        exports.add(tenant=tenant, actor=outsider, wish=wish(root))
    with pytest.raises(Missing):
        exports.add(tenant=None, actor=owner, wish=wish(root))
    schedule = exports.add(tenant=tenant, actor=owner, wish=wish(root))
    for deed in (
        lambda: exports.remove(schedule=schedule, actor=member),
        lambda: exports.run_now(schedule=schedule, actor=member),
        lambda: exports.set_paused(schedule=schedule, actor=member, paused=True),
        lambda: exports.change_credentials(schedule=schedule, actor=member, access_key="a", secret="b"),
    ):
        with pytest.raises(NotAllowed):
            deed()


def test_the_pages_show_it_and_do_it(
    container: Container, owner: User, member: User, tenant: Tenant, root: Path
) -> None:
    used(container)
    client = Client()
    client.force_login(owner)
    form = {
        "name": "Nightly",
        "contents": ["usage-csv"],
        "every": "day",
        "hour": "1",
        "place": "folder",
        "root": str(root),
    }
    assert client.post("/usage/exports/add/", form).status_code == 302
    schedule = ExportSchedule.objects.get()
    here = f"/usage/exports/{schedule.pk}/"
    assert "Nightly" in client.get("/usage/exports/").content.decode()
    assert client.post(f"{here}run/", {"period": "tomorrow"}).status_code == 422
    assert client.post(f"{here}run/", {"period": "2999-01-01"}).status_code == 422
    assert client.post(f"{here}run/", {"period": f"{TODAY - DAY:%Y-%m-%d}"}).status_code in {302, 422}
    ExportDelivery.objects.update_or_create(
        schedule=schedule, starts_at=TODAY, ends_at=TODAY + DAY,
        defaults={"due_at": TODAY, "state": "waiting", "attempts": 3, "error": "The store cannot be reached."},
    )  # fmt: skip
    page = client.get(here).content.decode()
    assert f"{TODAY:%Y-%m-%d}" in page
    assert "tried 3 times" in page
    assert client.post(f"{here}pause/").status_code == 302
    assert "Resume" in client.get(here).content.decode()
    assert client.post(f"{here}run/").status_code == 422
    assert client.post(f"{here}nonsense/").status_code == 404
    client.force_login(member)
    page = client.get(here).content.decode()
    assert "Run now" not in page
    assert "Resume" not in page
    assert client.post(f"{here}remove/").status_code == 403
    client.force_login(owner)
    assert client.post(f"{here}remove/").status_code == 302
    assert not ExportSchedule.objects.exists()
    verbs = AuditEvent.objects.filter(verb__startswith="export.").order_by("pk").values_list("verb", flat=True)
    assert {"export.add", "export.pause", "export.remove"} <= set(verbs)


def test_an_admin_sees_a_tenants_and_everybodys(admin: User, owner: User, tenant: Tenant, root: Path) -> None:
    own = exports.add(tenant=tenant, actor=owner, wish=wish(root, name="Of the tenant"))
    every = exports.add(tenant=None, actor=admin, wish=wish(root, name="Of everybody"))
    client = Client()
    client.force_login(admin)
    page = client.get("/admin/exports/").content.decode()
    assert "Of everybody" in page
    assert "Of the tenant" not in page
    page = client.get(f"/admin/exports/?tenant={tenant.pk}").content.decode()
    assert "Of the tenant" in page
    assert (
        client.post(f"/admin/exports/{own.pk}/pause/?tenant={tenant.pk}")
        .headers["Location"]
        .endswith(f"/admin/exports/{own.pk}/?tenant={tenant.pk}")
    )
    assert client.get(f"/admin/exports/{every.pk}/").status_code == 200
    client.force_login(owner)
    assert client.get(f"/usage/exports/{every.pk}/").status_code == 404
