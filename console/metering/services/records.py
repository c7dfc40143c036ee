"""Charges into usage records: split at UTC hours, named by their content, each billed in a period."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from console.metering.measuring import COUNTERS, GONE, Charge, Mark, moment
from console.metering.models import Allocation, MeterEpoch, Quality, Resource, UsageRecord
from console.metering.rows import insert
from console.metering.services import sums
from console.metering.services.months import Months
from console.metering.splitting import split

Row = tuple[Any, ...]
FIELDS = (
    "id", "tenant_id", "epoch_id", "allocation_id", "resource_id", "meter", "window", "starts_at", "ends_at", "quantity",
    "quality", "from_sequence", "to_sequence", "billed_in_id",
)  # fmt: skip
"""Of a row, in order."""
TENANT, WINDOW = FIELDS.index("tenant_id"), FIELDS.index("window")


def record_id(source: str, meter: str, start: Mark, end: Mark, window: dt.datetime) -> str:
    """Boot times are part of it: where the clock was set back, several intervals lie on one instant of wall time."""
    key = f"{source}|{meter}|{start.at_us}@{start.ns}|{end.at_us}@{end.ns}|{_hour(window)}"
    return hashlib.sha256(key.encode()).hexdigest()


@lru_cache(1024)
def _hour(window: dt.datetime) -> str:
    return f"{window:%Y-%m-%dT%HZ}"


def of_epoch(epoch: MeterEpoch, charges: Iterable[Charge], resource: Resource, months: Months) -> Iterator[Row]:
    for charge in charges:
        yield from _rows(charge, epoch.pk, resource, months, epoch=epoch)


def of_allocation(allocation: Allocation, charge: Charge, months: Months) -> Iterator[Row]:
    yield from _rows(charge, allocation.pk, allocation.resource, months, allocation=allocation)


def store(found: Iterable[Row]) -> None:
    """Their resources and periods are stored already."""
    rows = list(found)
    insert(UsageRecord, FIELDS, rows)
    sums.mark((str(row[TENANT]), row[WINDOW]) for row in rows)


def _rows(
    charge: Charge,
    source: str,
    resource: Resource,
    months: Months,
    *,
    epoch: MeterEpoch | None = None,
    allocation: Allocation | None = None,
) -> Iterator[Row]:
    meter, tenant, resource_id = str(charge.meter), resource.tenant_id, resource.pk
    parts = split(charge.quantity, moment(charge.start.at_us), moment(charge.end.at_us))
    quality = str(_quality(charge, len(parts)))
    epoch_id, allocation_id = epoch and epoch.pk, allocation and allocation.pk
    first = None if epoch is None else charge.start.sequence
    last = None if epoch is None or charge.end.ns == GONE else charge.end.sequence
    for part in parts:
        yield (
            record_id(source, meter, charge.start, charge.end, part.window), tenant, epoch_id, allocation_id, resource_id,
            meter, part.window, part.starts_at, part.ends_at, part.quantity, quality, first, last,
            months.period_id(tenant, part.window),
        )  # fmt: skip


def _quality(charge: Charge, parts: int) -> Quality:
    if charge.quality is Quality.EXACT and (charge.stepped or (parts > 1 and charge.meter in COUNTERS)):
        return Quality.ESTIMATED
    return charge.quality
