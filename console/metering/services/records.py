"""Charges into usage records: split at UTC hours, named by their content, each billed in a period."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator

from console.metering.measuring import COUNTERS, GONE, Charge, Mark, moment
from console.metering.models import Allocation, MeterEpoch, Quality, Resource, UsageRecord
from console.metering.services.months import Months
from console.metering.splitting import split


def record_id(source: str, meter: str, start: Mark, end: Mark, window: dt.datetime) -> str:
    """Boot times are part of it: where the clock was set back, several intervals lie on one instant of wall time."""
    key = f"{source}|{meter}|{start.at_us}@{start.ns}|{end.at_us}@{end.ns}|{window:%Y-%m-%dT%HZ}"
    return hashlib.sha256(key.encode()).hexdigest()


def of_epoch(epoch: MeterEpoch, charges: Iterable[Charge], resource: Resource, months: Months) -> Iterator[UsageRecord]:
    for charge in charges:
        yield from _records(charge, epoch.pk, resource, months, epoch=epoch)


def of_allocation(allocation: Allocation, charge: Charge, months: Months) -> Iterator[UsageRecord]:
    yield from _records(charge, allocation.pk, allocation.resource, months, allocation=allocation)


def _records(
    charge: Charge,
    source: str,
    resource: Resource,
    months: Months,
    *,
    epoch: MeterEpoch | None = None,
    allocation: Allocation | None = None,
) -> Iterator[UsageRecord]:
    parts = split(charge.quantity, moment(charge.start.at_us), moment(charge.end.at_us))
    quality = _quality(charge, len(parts))
    for part in parts:
        yield UsageRecord(
            id=record_id(source, charge.meter, charge.start, charge.end, part.window),
            tenant_id=resource.tenant_id,
            epoch=epoch,
            allocation=allocation,
            resource=resource,
            meter=charge.meter,
            window=part.window,
            starts_at=part.starts_at,
            ends_at=part.ends_at,
            quantity=part.quantity,
            quality=quality,
            from_sequence=None if epoch is None else charge.start.sequence,
            to_sequence=None if epoch is None or charge.end.ns == GONE else charge.end.sequence,
            billed_in=months.period(resource.tenant_id, part.window),
        )


def _quality(charge: Charge, parts: int) -> Quality:
    if charge.quality is Quality.EXACT and (charge.stepped or (parts > 1 and charge.meter in COUNTERS)):
        return Quality.ESTIMATED
    return charge.quality
