"""Epochs and their readings.  Every call may come twice, and out of a crash; the sums stay the same."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from django.db import IntegrityError, transaction

from console.metering import lanes, rows
from console.metering.failpoints import failpoint
from console.metering.measuring import (
    ANOMALY,
    Charge,
    Measure,
    Seen,
    marks_json,
    marks_of,
    microseconds,
    moment,
    seen_json,
    seen_of,
)
from console.metering.models import MeterEpoch, Reading
from console.metering.observations import SOURCES, Observation, look
from console.metering.services import records, resources
from console.metering.services.months import Months
from console.metering.services.resources import Description
from console.metering.sizes import of_engine, rates, sizes_json, sizes_of
from console.workloads.models import Container
from runtime.api import ContainerStatus, Counters, FinalReading

log = logging.getLogger(__name__)
Start = tuple[str, int]
"""A container's id and the number of its start."""
SETTLED_AFTER = dt.timedelta(minutes=1)
AT_ONCE = 500
STATE_FIELDS = ("started_boottime_ns", "sequence", "read_at", "read_boottime_ns", "marks", "latest", "sizes", "boot_id")
READING_FIELDS = (
    "epoch_id", "meter", "sequence", "at", "placed_at", "boottime_ns", "value", "final", "source", "reason",
)  # fmt: skip
CONTAINER_FIELDS = ("tenant", "node", "name", "image_reference", "labels", "memory_bytes", "cpu_millis")
"""What metering asks of one; the rest, JSON among it, takes longer to read than all of these."""
END_FIELDS = ("ended_at", "lost", "end_reason", "cgroup_inode")


@transaction.atomic
def begin(status: ContainerStatus, container: Container) -> MeterEpoch:
    """The epoch of a start.  Begun already: returned as it is.  Raises ValueError for a status that has not started."""
    if status.started_at is None:
        raise ValueError(f"{status.id} has no start to meter from")
    limits = (status.limits_at_start.memory_bytes, status.limits_at_start.cpu_millis)
    started = Started(round(status.started_at * 1_000_000), status.started_boottime_ns)
    _begin([_begun(container, status.epoch, started, limits)])
    return MeterEpoch.objects.get(container=container, number=status.epoch)


def end_of(container: Container, number: int) -> dt.datetime | None:
    """Of a start; None: nobody knows yet."""
    return MeterEpoch.objects.filter(container=container, number=number).values_list("ended_at", flat=True).first()


def epoch_id(container: str, number: int) -> str:
    """The same start has the same id, in whichever database it is taken in."""
    return "e" + hashlib.sha256(f"{container}#{number}".encode()).hexdigest()[:24]


class Started(NamedTuple):
    """When an epoch began: by the wall clock and, where it was told, by the boot clock."""

    us: int
    ns: int | None


def _begun(container: Container, number: int, started: Started, limits: tuple[int, int] | None) -> MeterEpoch:
    """``limits``: memory and CPU as the engine told them; None: those that the row has."""
    memory_bytes, cpu_millis = limits or (container.memory_bytes, container.cpu_millis)
    return MeterEpoch(
        id=epoch_id(container.pk, number),
        tenant_id=container.tenant_id,
        container=container,
        number=number,
        node=container.node,
        started_at=moment(started.us),
        started_boottime_ns=started.ns,
        memory_bytes=memory_bytes,
        cpu_millis=cpu_millis,
    )


def _begin(wanted: Iterable[MeterEpoch]) -> None:
    """Those that are there stay as they are.  In one order for everybody: whoever stores the same waits."""
    MeterEpoch.objects.bulk_create(sorted(wanted, key=lambda epoch: epoch.pk), ignore_conflicts=True)


def read(readings: Mapping[str, Counters]) -> None:
    """A look at each running container, each taken for that of its newest open epoch."""
    wanted = MeterEpoch.objects.filter(container__in=list(readings), ended_at__isnull=True)
    newest = {epoch.container_id: epoch for epoch in wanted.order_by("number")}
    take(_observed(epoch, look(readings[id])) for id, epoch in newest.items())


def _observed(epoch: MeterEpoch, seen: Seen) -> Observation:
    started_us = microseconds(epoch.started_at)
    return Observation(
        epoch.container_id, epoch.number, started_us, epoch.boot_id, 0, seen.at_us, seen.ns, seen.values, seen.gauge
    )


def take(observations: Iterable[Observation]) -> list[Observation]:
    """Into the database, in transactions of whole epochs.  Returns those of containers that no row knows.

    A batch is of neighbours in the indexes by epochs.  In whatever order they come they are taken by boot time; one that is not after the last of its epoch changes nothing, nor
    does one whose epoch has ended.
    """
    by_start: dict[Start, list[Observation]] = {}
    for one in observations:
        by_start.setdefault((one.container, one.epoch), []).append(one)
    starts = sorted(by_start, key=lambda start: epoch_id(*start))
    batches = [starts[first : first + AT_ONCE] for first in range(0, len(starts), AT_ONCE)]
    with rows.room() if len(batches) > 1 else contextlib.nullcontext(), _no_search_for_cycles():
        strangers = lanes.run(lambda batch: _take({start: by_start[start] for start in batch}), batches)
    return [one for some in strangers for one in some]


@contextlib.contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Of many looks' small objects none is in a cycle; searching for some takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@transaction.atomic
def _take(by_start: Mapping[Start, list[Observation]]) -> list[Observation]:
    """All epochs are there before any of them is locked: one that was made on the way could be somebody else's by then."""
    ids = {container for container, _ in by_start}
    still_open = MeterEpoch.objects.filter(container__in=ids, ended_at__isnull=True)
    begun = set(still_open.values_list("container_id", "number"))
    containers: dict[str, Container] = Container.objects.only(*CONTAINER_FIELDS).prefetch_related("tenant").in_bulk(ids)
    known = {start: looks for start, looks in by_start.items() if start[0] in containers}
    _begin(
        _begun(containers[id], number, Started(looks[0].started_us, looks[0].started_ns), looks[0].limits)
        for (id, number), looks in known.items()
        if (id, number) not in begun
    )
    entry = _Entry()
    over = set(known)
    for epoch in still_open.filter(container__in=containers).select_for_update().order_by("pk"):
        start = (epoch.container_id, epoch.number)
        over.discard(start)
        _look(epoch, containers[epoch.container_id], sorted(known.get(start, []), key=lambda one: one.ns), entry)
    _check_ended(over)
    entry.store()
    failpoint("ingest.stored")
    return [one for start, looks in by_start.items() if start not in known for one in looks]


def _check_ended(starts: AbstractSet[Start]) -> None:
    """Raises IntegrityError: an epoch could not be stored, and SQLite, asked to pass over those that are there, passed over that too."""
    if not starts:
        return
    ended = MeterEpoch.objects.filter(container__in={id for id, _ in starts}).values_list("container_id", "number")
    if lost := starts - set(ended):
        raise IntegrityError(f"there is no epoch of {sorted(lost)}, whose readings would be lost")


def _look(epoch: MeterEpoch, container: Container, looks: list[Observation], entry: _Entry) -> None:
    measure = _measure(epoch)
    taken = [_taken(measure, one) for one in looks]
    if any(taken):
        epoch.boot_id = epoch.boot_id or looks[-1].boot_id
        entry.add(epoch, container, measure, looks[-1].cgroup)


def _taken(measure: Measure, one: Observation) -> bool:
    measure.learn(one.sizes)
    return measure.look(one.seen)


@transaction.atomic
def ingest_final(reading: FinalReading, *, cgroup: int = 0) -> bool:
    """Ends the epoch.  Ended already: does nothing.  False: no row knows the container, so the reading must be kept."""
    container = Container.objects.select_related("tenant").filter(pk=reading.container).first()
    if container is None:
        log.error("a final reading of %s, which no row knows, cannot be billed and is kept", reading.container)
        return False
    limits = (reading.limits.memory_bytes, reading.limits.cpu_millis)
    started = Started(round(reading.started_at * 1_000_000), reading.started_boottime_ns)
    _begin([_begun(container, reading.epoch, started, limits)])
    epoch = MeterEpoch.objects.select_for_update().get(container=container, number=reading.epoch)
    if epoch.ended_at is not None:
        return True
    measure = _measure(epoch)
    measure.learn(of_engine(reading.limits, reading.sizes))
    epoch.ended_at, epoch.end_reason = moment(measure.place(round(reading.finished_at * 1_000_000))), "exited"
    measure.finish(look(reading.counters))
    epoch.boot_id, epoch.cgroup_inode = reading.boot_id, reading.cgroup_inode
    entry = _Entry()
    entry.add(epoch, container, measure, cgroup)
    entry.store(*END_FIELDS)
    failpoint("final.ingested")
    return True


@transaction.atomic
def close_lost(
    node: str, running: Mapping[str, int], as_of: dt.datetime, undecided: AbstractSet[str] = frozenset()
) -> int:
    """End the epochs of ``node`` that do not run and whose final readings will never come; returns how many.

    ``running``: container -> its epoch, as the engine said at ``as_of``, before its final readings were taken in; what
    started later than a minute before that is left for the next time, and so is what is ``undecided``: damaged on the node, whose removal
    by force stores a reading.  Such an epoch is charged up to its last look;
    from there to the end that the container's row knows, each meter is missing.
    """
    lost = _lost(node, running, as_of, undecided)
    entry = _Entry()
    for epoch in lost:
        container = Container.objects.select_related("tenant").get(pk=epoch.container_id)
        measure = _measure(epoch)
        seen = measure.latest
        last = moment(seen.at_us) if seen is not None else epoch.started_at
        epoch.ended_at = moment(measure.place(microseconds(max(last, container.finished_at or last))))
        epoch.lost, epoch.end_reason = True, "lost"
        measure.lose(microseconds(epoch.ended_at))
        entry.add(epoch, container, measure, 0)
        log.error("the final reading of %s is lost; nothing is charged after %s", epoch, last)
    entry.store(*END_FIELDS)
    return len(lost)


def _lost(node: str, running: Mapping[str, int], as_of: dt.datetime, undecided: AbstractSet[str]) -> list[MeterEpoch]:
    """Locked, in the order in which looks lock theirs.  What runs, nearly all, is not: looks at it do not wait."""
    still_open = MeterEpoch.objects.filter(node=node, started_at__lt=as_of - SETTLED_AFTER, ended_at__isnull=True)
    starts = still_open.values_list("pk", "container_id", "number")
    lost = [pk for pk, id, number in starts if running.get(id) != number and id not in undecided]
    return list(still_open.select_for_update().filter(pk__in=lost).order_by("pk")) if lost else []


def _measure(epoch: MeterEpoch) -> Measure:
    return Measure(
        started_us=microseconds(epoch.started_at),
        rates=rates(epoch.memory_bytes, epoch.cpu_millis),
        started_ns=epoch.started_boottime_ns,
        sequence=epoch.sequence,
        marks=marks_of(epoch.marks),
        latest=seen_of(epoch.latest),
        sizes=sizes_of(epoch.sizes),
    )


class _Entry:
    """What one transaction stores."""

    def __init__(self) -> None:
        self._epochs: list[MeterEpoch] = []
        self._readings: list[tuple[Any, ...]] = []
        self._charged: list[tuple[MeterEpoch, list[Charge], Description]] = []
        self._resources: dict[str, Description] = {}

    def add(self, epoch: MeterEpoch, container: Container, measure: Measure, cgroup: int) -> None:
        self._epochs.append(epoch)
        epoch.sequence, epoch.started_boottime_ns = measure.sequence, measure.started_ns
        epoch.marks, epoch.latest = marks_json(measure.marks), seen_json(measure.latest)
        epoch.sizes = sizes_json(measure.sizes)
        if measure.said:
            epoch.read_at, epoch.read_boottime_ns = moment(measure.said[-1].at_us), measure.said[-1].ns
        self._readings += _readings(epoch, measure, SOURCES.get(cgroup, {}))
        if measure.charges:
            resource = resources.of_container(container)
            resource = self._resources.setdefault(resource.pk, resource)
            self._charged.append((epoch, measure.charges, resource))

    def store(self, *more: str) -> None:
        resources.store(self._resources.values())
        rows.put(Reading, READING_FIELDS, self._readings)
        rows.update(MeterEpoch, (*STATE_FIELDS, *more), self._epochs)
        months = Months()
        months.lock(
            ends for _, charges, resource in self._charged for ends in records.ends(resource.tenant_id, charges)
        )
        records.store(self._records(months))

    def _records(self, months: Months) -> Iterator[records.Row]:
        for epoch, charges, resource in self._charged:
            yield from records.of_epoch(epoch, charges, resource, months)


def _readings(epoch: MeterEpoch, measure: Measure, sources: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    for one in measure.said:
        if one.reason == ANOMALY:
            log.error("meter %s of %s went back to %d; nothing is charged for it", one.meter, epoch, one.value)
        at, placed = _told(one.at_us), None if one.placed_us == one.at_us else _told(one.placed_us)
        meter = records.NAMES[one.meter]
        yield (
            epoch.pk, meter, one.sequence, at, placed, one.ns, one.value, one.final, sources.get(meter, ""), one.reason,
        )  # fmt: skip


def _told(us: int) -> str:
    return rows.told(moment(us))
