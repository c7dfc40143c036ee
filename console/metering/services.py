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
from django.db.models import F, Max, Window

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


@dataclass(frozen=True, slots=True)
class _Instant:
    at: dt.datetime
    boottime_ns: int


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


@transaction.atomic
def begin(status: ContainerStatus, container: Container) -> MeterEpoch:
    """The epoch of a start.  Begun already: returned as it is."""
    return _epoch(container, status.epoch, status.started_at or 0.0)


def _epoch(container: Container, number: int, started_at: float, **more: object) -> MeterEpoch:
    epoch, _ = MeterEpoch.objects.get_or_create(
        container=container,
        number=number,
        defaults={
            "tenant_id": container.tenant_id,
            "node": container.node,
            "started_at": _time(started_at),
            "memory_bytes": container.memory_bytes,
            "cpu_millis": container.cpu_millis,
            **more,
        },
    )
    return epoch


def read(readings: Mapping[str, Counters]) -> None:
    """A reading of each running container, in one transaction."""
    with transaction.atomic():
        found = MeterEpoch.objects.select_for_update().filter(container__in=list(readings), ended_at__isnull=True)
        # a start whose final reading is still on its way is not the one that runs
        open_epochs = list({epoch.container_id: epoch for epoch in found.order_by("number")}.values())
        rows: list[Reading] = []
        records: list[UsageRecord] = []
        latest = _latest([epoch.pk for epoch in open_epochs])
        for epoch in open_epochs:
            _measure(epoch, readings[epoch.container_id], latest.get(epoch.pk, {}), rows, records, final=False)
        _store(rows, records)


@transaction.atomic
def ingest_final(reading: FinalReading) -> None:
    """Ends the epoch.  Ended already: does nothing."""
    container = Container.objects.filter(pk=reading.container).first()
    if container is None:
        log.error("a final reading of %s, which no row knows, cannot be billed", reading.container)
        return
    _epoch(container, reading.epoch, reading.started_at)
    epoch = MeterEpoch.objects.select_for_update().get(container=container, number=reading.epoch)
    if epoch.ended_at is not None:
        return
    rows: list[Reading] = []
    records: list[UsageRecord] = []
    _measure(epoch, reading.counters, _latest([epoch.pk]).get(epoch.pk, {}), rows, records, final=True)
    _store(rows, records)
    epoch.ended_at = _time(reading.finished_at)
    epoch.boot_id, epoch.cgroup_inode = reading.boot_id, reading.cgroup_inode
    epoch.save(update_fields=["ended_at", "boot_id", "cgroup_inode"])


def _latest(epochs: list[str]) -> dict[str, dict[str, Reading]]:
    """Epoch -> meter -> its last reading that has a value: what the kernel did not say for a while is no base to count from."""
    found: dict[str, dict[str, Reading]] = {}
    last = Window(Max("sequence"), partition_by=["epoch", "meter"])
    said = Reading.objects.filter(epoch__in=epochs, value__isnull=False)
    for row in said.annotate(last=last).filter(sequence=F("last")):
        found.setdefault(row.epoch_id, {})[row.meter] = row
    return found


def _measure(
    epoch: MeterEpoch,
    counters: Counters,
    latest: Mapping[str, Reading],
    rows: list[Reading],
    records: list[UsageRecord],
    *,
    final: bool,
) -> None:
    now = _Instant(_time(counters.at), counters.boottime_ns)
    clock = latest.get(Meter.CPU_LIMIT)
    start = _start(epoch, now) if clock is None else _Instant(clock.at, clock.boottime_ns)
    elapsed_ns = now.boottime_ns - start.boottime_ns
    if clock is not None and elapsed_ns <= 0 and not final:
        return  # the same reading again, or an older one
    sequence = clock.sequence + 1 if clock else 1

    def note(meter: Meter, value: int | None, reason: str = "") -> None:
        rows.append(
            Reading(
                epoch=epoch, meter=meter, sequence=sequence, at=now.at, boottime_ns=now.boottime_ns, value=value,
                final=final, reason=reason,
            )
        )  # fmt: skip

    def charge(meter: Meter, quantity: int, quality: Quality) -> None:
        records.extend(_records(epoch, meter, quantity, start.at, now.at, quality))

    for meter, name in COUNTERS.items():
        value: int | None = getattr(counters, name)
        before = latest.get(meter)
        base = int(before.value) if before is not None and before.value is not None else 0
        if value is None:
            note(meter, None, "unavailable")
        elif value < base:
            log.error("meter %s of %s went back from %d to %d; nothing is charged for it", meter, epoch, base, value)
            note(meter, base, "anomaly")  # what was charged stays the base, so that nothing is charged twice
        else:
            note(meter, value)
            charge(meter, value - base, Quality.EXACT)
    elapsed_us = max(0, now.boottime_ns // 1000 - start.boottime_ns // 1000)  # so that the parts sum to the whole
    for meter, rate in ((Meter.CPU_LIMIT, epoch.cpu_millis), (Meter.MEMORY_LIMIT, epoch.memory_bytes // KIB)):
        note(meter, rate)
        charge(meter, rate * elapsed_us, Quality.EXACT)
    gauge = counters.memory_bytes
    note(Meter.MEMORY_USED, gauge, "" if gauge is not None else "unavailable")
    if gauge is not None:  # by trapezoids: the mean of two gauges times the time between them
        earlier = latest.get(Meter.MEMORY_USED)
        total = (int(earlier.value) if earlier is not None and earlier.value is not None else 0) + gauge
        charge(Meter.MEMORY_USED, total // KIB * elapsed_us // 2, Quality.INTEGRATED)


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


def _store(rows: list[Reading], records: list[UsageRecord]) -> None:
    Reading.objects.bulk_create(rows, batch_size=500)
    UsageRecord.objects.bulk_create(records, batch_size=500)
