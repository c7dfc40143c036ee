"""Readings into usage records.  Every call may come twice, and out of a crash; the sums stay the same.

The first reading of an epoch is measured against zero at its start, each later one against the one before it, so the records of a
meter sum to its last reading.  Limits and memory are integrated over boot time, which no change of the clock bends.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from django.db import transaction

from console.metering.models import Meter, MeterEpoch, Quality, Reading, UsageRecord
from console.metering.splitting import split
from console.workloads.models import Container
from runtime.api import ContainerStatus, Counters, FinalReading

log = logging.getLogger(__name__)

COUNTERS: Mapping[Meter, str] = {
    Meter.CPU: "cpu_ns",
    Meter.BLOCK_READ: "block_read_bytes",
    Meter.BLOCK_WRITE: "block_write_bytes",
    Meter.NET_RX: "net_rx_bytes",
    Meter.NET_TX: "net_tx_bytes",
}
GAUGE = "memory_bytes"
KIB = 1024
SETTLED_AFTER = dt.timedelta(minutes=1)
READ_FIELDS = ("sequence", "read_at", "read_boottime_ns", "counted")
END_FIELDS = ("ended_at", "lost", "boot_id", "cgroup_inode")


@dataclass(frozen=True, slots=True)
class _Instant:
    at: dt.datetime
    boottime_ns: int


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


@transaction.atomic
def begin(status: ContainerStatus, container: Container) -> MeterEpoch:
    """The epoch of a start.  Begun already: returned as it is.  Raises ValueError for a status that has not started."""
    if status.started_at is None:
        raise ValueError(f"{status.id} has no start to meter from")
    limits = {"memory_bytes": container.memory_bytes, "cpu_millis": container.cpu_millis}
    return _epoch(container, status.epoch, status.started_at, **limits)


def _epoch(container: Container, number: int, started_at: float, **limits: int) -> MeterEpoch:
    epoch, _ = MeterEpoch.objects.get_or_create(
        container=container,
        number=number,
        defaults={
            "tenant_id": container.tenant_id,
            "node": container.node,
            "started_at": _time(started_at),
            **limits,
        },
    )
    return epoch


def read(readings: Mapping[str, Counters]) -> None:
    """A reading of each running container, in one transaction."""
    with transaction.atomic():
        found = MeterEpoch.objects.select_for_update().filter(container__in=list(readings), ended_at__isnull=True)
        # a start whose final reading is still on its way is not the one that runs
        open_epochs = list({epoch.container_id: epoch for epoch in found.order_by("number")}.values())
        entry = _Entry()
        for epoch in open_epochs:
            if epoch.read_boottime_ns is None or readings[epoch.container_id].boottime_ns > epoch.read_boottime_ns:
                _measure(epoch, readings[epoch.container_id], entry, final=False)
        entry.store(open_epochs)


@transaction.atomic
def ingest_final(reading: FinalReading) -> bool:
    """Ends the epoch.  Ended already: does nothing.  False: no row knows the container, so the reading must be kept."""
    container = Container.objects.filter(pk=reading.container).first()
    if container is None:
        log.error("a final reading of %s, which no row knows, cannot be billed and is kept", reading.container)
        return False
    limits = {"memory_bytes": reading.limits.memory_bytes, "cpu_millis": reading.limits.cpu_millis}
    _epoch(container, reading.epoch, reading.started_at, **limits)
    epoch = MeterEpoch.objects.select_for_update().get(container=container, number=reading.epoch)
    if epoch.ended_at is not None:
        return True
    entry = _Entry()
    _measure(epoch, reading.counters, entry, final=True)
    epoch.ended_at = _time(reading.finished_at)
    epoch.boot_id, epoch.cgroup_inode = reading.boot_id, reading.cgroup_inode
    for meter in COUNTERS:
        if meter not in epoch.counted:
            entry.charge(epoch, meter, 0, epoch.started_at, epoch.ended_at, Quality.MISSING)
    entry.store([epoch], *END_FIELDS)
    return True


@transaction.atomic
def close_lost(node: str, running: Mapping[str, int], as_of: dt.datetime) -> int:
    """End the epochs of ``node`` that do not run and whose final readings will never come; returns how many.

    ``running``: container -> its epoch, as the engine said at ``as_of``, before its final readings were taken in; what
    started later than a minute before that is left for the next time.  Such an epoch is charged up to its last reading;
    from there to the end that the container's row knows, each meter is missing.
    """
    started = MeterEpoch.objects.select_for_update().filter(started_at__lt=as_of - SETTLED_AFTER)
    lost = [
        epoch
        for epoch in started.filter(node=node, ended_at__isnull=True)
        if running.get(epoch.container_id) != epoch.number
    ]
    entry = _Entry()
    for epoch in lost:
        last = epoch.read_at or epoch.started_at
        epoch.ended_at = max(last, epoch.container.finished_at or last)
        epoch.lost = True
        for meter in Meter:
            entry.charge(epoch, meter, 0, last, epoch.ended_at, Quality.MISSING)
        log.error("the final reading of %s is lost; nothing is charged after %s", epoch, last)
    entry.store(lost, *END_FIELDS)
    return len(lost)


class _Entry:
    """Readings and records that are stored together."""

    def __init__(self) -> None:
        self._readings: list[Reading] = []
        self._records: list[UsageRecord] = []

    def note(
        self, epoch: MeterEpoch, meter: Meter, now: _Instant, value: int | None, reason: str = "", *, final: bool
    ) -> None:
        self._readings.append(
            Reading(
                epoch=epoch, meter=meter, sequence=epoch.sequence, at=now.at, boottime_ns=now.boottime_ns, value=value,
                final=final, reason=reason,
            )
        )  # fmt: skip

    def charge(
        self, epoch: MeterEpoch, meter: Meter, quantity: int, start: dt.datetime, end: dt.datetime, quality: Quality
    ) -> None:
        self._records.extend(_records(epoch, meter, quantity, start, end, quality))

    def store(self, epochs: list[MeterEpoch], *more: str) -> None:
        Reading.objects.bulk_create(self._readings, batch_size=500)
        UsageRecord.objects.bulk_create(self._records, batch_size=500)
        MeterEpoch.objects.bulk_update(epochs, (*READ_FIELDS, *more), batch_size=100)


def _measure(epoch: MeterEpoch, counters: Counters, entry: _Entry, *, final: bool) -> None:
    now = _Instant(_time(counters.at), counters.boottime_ns)
    start = _previous(epoch, now)
    elapsed_us = max(0, now.boottime_ns // 1000 - start.boottime_ns // 1000)  # so that the parts sum to the whole
    epoch.sequence += 1
    epoch.read_at, epoch.read_boottime_ns = now.at, max(now.boottime_ns, start.boottime_ns)

    def charge(meter: Meter, quantity: int, quality: Quality) -> None:
        entry.charge(epoch, meter, quantity, start.at, now.at, quality)

    for meter, name in COUNTERS.items():
        value: int | None = getattr(counters, name)
        base = int(epoch.counted.get(meter, 0))
        if value is None:
            entry.note(epoch, meter, now, None, "unavailable", final=final)
        elif value < base:
            log.error("meter %s of %s went back from %d to %d; nothing is charged for it", meter, epoch, base, value)
            entry.note(epoch, meter, now, value, "anomaly", final=final)  # the base stays: nothing is charged twice
        else:
            entry.note(epoch, meter, now, value, final=final)
            charge(meter, value - base, Quality.EXACT)
            epoch.counted[meter] = value
    for meter, rate in ((Meter.CPU_LIMIT, epoch.cpu_millis), (Meter.MEMORY_LIMIT, epoch.memory_bytes // KIB)):
        entry.note(epoch, meter, now, rate, final=final)
        charge(meter, rate * elapsed_us, Quality.EXACT)
    gauge = counters.memory_bytes
    entry.note(epoch, Meter.MEMORY_USED, now, gauge, "" if gauge is not None else "unavailable", final=final)
    if gauge is not None:  # by trapezoids: the mean of two gauges times the time between them
        total = int(epoch.counted.get(Meter.MEMORY_USED, 0)) + gauge
        charge(Meter.MEMORY_USED, total // KIB * elapsed_us // 2, Quality.INTEGRATED)
        epoch.counted[Meter.MEMORY_USED] = gauge


def _previous(epoch: MeterEpoch, now: _Instant) -> _Instant:
    if epoch.read_at is None or epoch.read_boottime_ns is None:
        return _start(epoch, now)
    return _Instant(epoch.read_at, epoch.read_boottime_ns)


def _start(epoch: MeterEpoch, now: _Instant) -> _Instant:
    """The boot time of the epoch's beginning, from the wall clock's distance, which is all that there is of it."""
    since = max(dt.timedelta(0), now.at - epoch.started_at)
    return _Instant(min(epoch.started_at, now.at), now.boottime_ns - since // dt.timedelta(microseconds=1) * 1000)


def _records(
    epoch: MeterEpoch, meter: Meter, quantity: int, start: dt.datetime, end: dt.datetime, quality: Quality
) -> list[UsageRecord]:
    made = []
    for part in split(quantity, start, end):
        key = f"{epoch.pk}|{meter}|{start.isoformat()}|{end.isoformat()}|{part.window.isoformat()}"
        made.append(
            UsageRecord(
                id=hashlib.sha256(key.encode()).hexdigest(),
                tenant_id=epoch.tenant_id,
                epoch=epoch,
                meter=meter,
                window=part.window,
                starts_at=part.starts_at,
                ends_at=part.ends_at,
                quantity=part.quantity,
                quality=quality,
            )
        )
    return made
