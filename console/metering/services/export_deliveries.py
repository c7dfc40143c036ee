"""Deliveries of scheduled exports: planned when a period has ended, made in a folder of the node's, put in place, the manifest last.

One at a time in a process, for each takes a thread, a processor and disk from what people wait for.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db.models import F

from console.core import errors
from console.core.secrets import decrypt
from console.metering.exports import periodic
from console.metering.exports.folder import Folder
from console.metering.exports.places import Failed, Place, Refused
from console.metering.exports.s3 import Store
from console.metering.failpoints import failpoint
from console.metering.models import ExportDelivery, ExportSchedule
from console.metering.selectors.exports import period_name
from console.metering.services import exports
from console.metering.services.budgets import containers
from console.metering.services.rating import carry_on
from console.metering.services.turns import in_turn
from console.metering.spool import Spool
from runtime.home import Home

log = logging.getLogger(__name__)
State = ExportDelivery.State
LEASE = dt.timedelta(minutes=10)
RENEW_EVERY_S = 60.0
FIRST_PAUSE, LONGEST_PAUSE = dt.timedelta(minutes=1), dt.timedelta(hours=1)
MOST_ATTEMPTS = 60
"""More than two days."""
PATIENT_ATTEMPTS = 6
"""About an hour: a frame that a crash cut short waits in the spool until the next container is read."""
ALL = "all"
"""Whose export it is where it is everybody's."""
UNFORESEEN = "Something unforeseen went wrong."
_at_work = threading.Lock()


@dataclass(frozen=True, slots=True)
class Made:
    files: int
    bytes: int
    sha256: str


def pause(attempts: int) -> dt.timedelta:
    """After so many tries that failed."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(attempts - 1, 20)))


def plan(now: dt.datetime) -> int:
    """A delivery for each period that has become due; returns how many are new."""
    return sum(exports.plan(schedule, now) for schedule in ExportSchedule.objects.filter(paused=False))


def deliver_due(now: dt.datetime) -> int:
    """What is due, each tenant in its turn; returns how many were tried.  None where this process is at it already.

    Of a schedule whose place fails, or is not ready, no more is tried this time.
    """
    if not _at_work.acquire(blocking=False):
        return 0
    try:
        plan(now)
        due = ExportDelivery.objects.filter(state=State.WAITING, due_at__lte=now, schedule__paused=False)
        listed = due.order_by("due_at", "pk").values_list("pk", "schedule_id", "schedule__tenant_id")
        waiting = [((id, schedule), tenant or ALL) for id, schedule, tenant in listed]
        tried, failing = 0, set[str]()
        for (id, schedule), _tenant in in_turn(waiting):
            if schedule in failing or not _try(id, now):
                continue
            tried += 1
            if ExportDelivery.objects.filter(pk=id).exclude(state=State.DELIVERED).exists():
                failing.add(schedule)
        return tried
    finally:
        _at_work.release()


def _try(id: int, now: dt.datetime) -> bool:
    """False: somebody else has it.  Whoever dies over it leaves it to be tried again once the lease is over."""
    waiting = ExportDelivery.objects.filter(pk=id, state=State.WAITING, due_at__lte=now)
    if not waiting.update(due_at=now + LEASE, attempts=F("attempts") + 1, error=""):
        return False
    delivery = ExportDelivery.objects.select_related("schedule__tenant").get(pk=id)
    try:
        made = _deliver(delivery)
    except Refused as refused:
        _end(delivery, State.GIVEN_UP, error=str(refused))
    except (Failed, periodic.NotReady) as failed:
        _failed(delivery, str(failed), now)
    except errors.Refused as refused:
        _failed(delivery, refused.message, now)
    except Exception:
        log.exception("export %s failed in an unforeseen way", delivery)
        _failed(delivery, UNFORESEEN, now)
    else:
        _end(
            delivery,
            State.DELIVERED,
            error="",
            delivered_at=now,
            files=made.files,
            bytes=made.bytes,
            sha256=made.sha256,
        )
    return True


def _deliver(delivery: ExportDelivery) -> Made:
    schedule = delivery.schedule
    place, pulse = place_of(schedule), _pulse(delivery)
    contents = frozenset(schedule.contents)
    tenants = (
        periodic.concerned(delivery.starts_at, delivery.ends_at, contents)
        if schedule.tenant is None
        else [schedule.tenant]
    )
    wanted = [periodic.Wanted(tenant, delivery.starts_at, delivery.ends_at, contents) for tenant in tenants]
    if delivery.attempts <= PATIENT_ATTEMPTS:
        _refuse_unread_node()
    for one in wanted:
        periodic.refuse_unready(one)
        _rate(one)
    folder = _emptied(Path(settings.HOME) / "exports")
    try:
        for one in wanted:
            target = folder if schedule.tenant is not None else folder / one.tenant.pk
            target.mkdir(exist_ok=True)
            periodic.write(one, target, pulse)
        return _put(folder, place, delivery, pulse)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_unread_node() -> None:
    """What waits on the node for the database may be of containers that no row's readings tell of."""
    if Spool(Home.from_environment().state / "spool").pending_bytes():
        raise periodic.NotReady("The node has readings that the database has not taken in yet.")


def _rate(wanted: periodic.Wanted) -> None:
    """Anew where charges of an open month are wanted: its last rating may be older than the last readings of the day."""
    period = wanted.unrated
    if period is not None:
        try:
            carry_on(period.pk)
        except errors.NotAllowed:  # closed in this moment, or just being closed
            periodic.refuse_unclosed(wanted)


def _put(folder: Path, place: Place, delivery: ExportDelivery, pulse: Callable[[], None]) -> Made:
    """The manifest last: where it is, everything that it names is."""
    under = period_name(delivery.schedule, delivery.starts_at)
    whose = delivery.schedule.tenant_id or ALL
    text = periodic.manifest(delivery.starts_at, delivery.ends_at, whose, folder)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    size = sum((folder / name).stat().st_size for name in names)
    for name in names:
        place.put(f"{under}/{name}", folder / name)
        pulse()
        failpoint("export.stored")
    (folder / periodic.MANIFEST).write_text(text, encoding="utf-8")
    place.put(f"{under}/{periodic.MANIFEST}", folder / periodic.MANIFEST)
    failpoint("export.manifest")
    return Made(len(names), size, hashlib.sha256(text.encode()).hexdigest())


def place_of(schedule: ExportSchedule) -> Place:
    """Raises core.errors.Refused where the stored secret cannot be read."""
    if schedule.place == ExportSchedule.Place.FOLDER:
        below = f"{schedule.tenant_id or ALL}/{schedule.folder}"
        return Folder(schedule.root, below, allowed=settings.EXPORT_ROOTS)
    return Store(
        schedule.endpoint, schedule.region, schedule.bucket, schedule.folder, schedule.access_key,
        decrypt(bytes(schedule.secret_encrypted)), schedule.inside, containers(),
    )  # fmt: skip


def _emptied(folder: Path) -> Path:
    """What a try that was killed left in it goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _pulse(delivery: ExportDelivery) -> Callable[[], None]:
    """Renews the lease, once a minute however often it is called."""
    last = time.monotonic()

    def pulse() -> None:
        nonlocal last
        elapsed = time.monotonic() - last
        if elapsed >= RENEW_EVERY_S:
            last += elapsed
            due_at = F("due_at") + dt.timedelta(seconds=elapsed)
            ExportDelivery.objects.filter(pk=delivery.pk, state=State.WAITING).update(due_at=due_at)

    return pulse


def _failed(delivery: ExportDelivery, why: str, now: dt.datetime) -> None:
    if delivery.attempts >= MOST_ATTEMPTS:
        log.warning("export %s is given up after %d tries: %s", delivery, delivery.attempts, why)
        _end(delivery, State.GIVEN_UP, error=why)
        return
    ExportDelivery.objects.filter(pk=delivery.pk).update(error=why[:300], due_at=now + pause(delivery.attempts))


def _end(delivery: ExportDelivery, state: State, *, error: str, **more: object) -> None:
    ExportDelivery.objects.filter(pk=delivery.pk).update(state=state, error=error[:300], **more)
