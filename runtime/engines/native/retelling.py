"""What a container's status says has happened, told when a crash or a power cut kept it from being told."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.api import ContainerSpec, EventKind, State
from runtime.engines.native.records import Record, Records
from runtime.errors import NotFound
from runtime.home import Home
from runtime.telemetry.journal import Journal


def tell_end(journal: Journal, spec: ContainerSpec, record: Record) -> None:
    data = {"epoch": record.epoch} | ({} if record.exit_code is None else {"exit_code": record.exit_code})
    for kind in (EventKind.OOM, EventKind.DIED) if record.oom_killed else (EventKind.DIED,):
        journal.tell(kind, spec.id, tenant=spec.tenant, name=spec.name, at=record.finished_at, data=data)


def tell_wait(journal: Journal, spec: ContainerSpec, record: Record, now: float) -> None:
    """That the restart policy will start it, if it will."""
    if record.restart_at is not None:
        data = {"in_s": round(record.restart_at - now, 1), "number": record.restarts + 1}
        journal.tell(EventKind.RESTARTING, spec.id, tenant=spec.tenant, name=spec.name, data=data)


def retell(journal: Journal, records: Records, home: Home) -> None:
    """Each under its container's lock, which whoever tells of it holds; what is older than the oldest event was told once."""
    here = tuple(records.readable())
    ids = {spec.id for spec, _ in here}
    told: set[tuple[str, EventKind, object]] = set()
    oldest: float | None = None
    for event in journal.recent():  # thousands, most of them of what is gone
        oldest = event.at if oldest is None else oldest
        if event.subject in ids:
            told.add((event.subject, event.kind, event.data.get("epoch")))
    for spec, record in here:
        for kind, at, epoch in _implied(record):
            if at >= (oldest or 0.0) and (spec.id, kind, epoch) not in told:
                with home.lock(spec.id):
                    _again(journal, records, spec, kind, epoch)


def _implied(record: Record) -> Iterator[tuple[EventKind, float, int | None]]:
    yield EventKind.CREATED, record.created_at, None
    if record.state in {State.RUNNING, State.EXITED} and record.started_at is not None:
        yield EventKind.STARTED, record.started_at, record.epoch
    if record.state is State.EXITED and record.finished_at is not None:
        yield EventKind.DIED, record.finished_at, record.epoch


def _again(journal: Journal, records: Records, spec: ContainerSpec, kind: EventKind, epoch: int | None) -> None:
    """The caller holds the lock; what is no longer so is left to whoever changed it."""
    try:
        record = records.record(spec.id)
    except NotFound:
        return
    implied = {(kind, epoch): at for kind, at, epoch in _implied(record)}
    if (kind, epoch) not in implied or journal.told(spec.id, kind, epoch):
        return
    if kind is EventKind.DIED:
        tell_end(journal, spec, record)
    else:
        data = {} if epoch is None else {"epoch": epoch}
        journal.tell(kind, spec.id, tenant=spec.tenant, name=spec.name, at=implied[kind, epoch], data=data)
