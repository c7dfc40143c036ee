"""Charges into usage records: split at UTC hours, named by their content, each billed in a period."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from console.metering.measuring import COUNTERS, GONE, Charge, Mark, moment
from console.metering.models import Allocation, Meter, MeterEpoch, Quality, Resource, UsageRecord
from console.metering.rows import moment_of, put, told
from console.metering.services import sums
from console.metering.services.months import Months
from console.metering.services.resources import Description
from console.metering.splitting import Cut, cut, shares

Row = tuple[Any, ...]
FIELDS = (
    "id", "tenant_id", "epoch_id", "allocation_id", "resource_id", "meter", "window", "starts_at", "ends_at", "quantity",
    "quality", "from_sequence", "to_sequence", "billed_in_id",
)  # fmt: skip
"""Of a row, in order.  Times are told (:func:`console.metering.rows.told`)."""
NAMES: dict[str, str] = {one: one.value for one in (*Meter, *Quality)}
"""As the database has them: asking each time costs more than making the rest of a row."""
SOURCE_DIGITS, WHOLE_DIGITS = 12, 42
TENANT, WINDOW = FIELDS.index("tenant_id"), FIELDS.index("window")


class Span(NamedTuple):
    """What the charges of one reading share, each on its own meter."""

    pieces: tuple[Cut, ...]
    places: tuple[Place, ...]
    """Of each piece."""


class Place(NamedTuple):
    """Where the records of a piece go."""

    first: str
    """Of their ids, as is the next; see :func:`record_id`."""
    hashed: str
    window: str
    """Told, as are the next two."""
    starts_at: str
    ends_at: str
    period: int
    """That they are billed in."""


def _span(start: Mark, end: Mark, source: str, tenant: str, months: Months) -> Span:
    """Boot times are part of what ids are made of: where the clock was set back, several intervals lie on one instant of wall time."""
    pieces = cut(moment(start.at_us), moment(end.at_us))
    said = f"{start.at_us}@{start.ns}|{end.at_us}@{end.ns}"
    places = (
        Place(
            *id_parts(source, said, one.window), told(one.window), told(one.starts_at), told(one.ends_at),
            months.period_id(tenant, one.window),
        )
        for one in pieces
    )  # fmt: skip
    return Span(pieces, tuple(places))


def id_parts(source: str, said: str, window: dt.datetime) -> tuple[str, str]:
    """Of the records of one source, interval and hour: how their ids begin, and what is hashed behind the meter."""
    hashed, first = hour_names(window)
    return f"{first}{source[-SOURCE_DIGITS:]}", f"|{said}|{hashed}"


def record_id(source: str, meter: str, parts: tuple[str, str]) -> str:
    """The hour in 10 digits, the last 12 digits of the source's id (a hash as well), and 42 of the sha256 of everything.

    So the records that are stored together lie side by side in the index of ids, at its end, however many there are: with
    hashes alone each of them would touch, and write, another page of it.
    """
    first, hashed = parts
    return first + hashlib.sha256(f"{source}|{meter}{hashed}".encode()).hexdigest()[:WHOLE_DIGITS]


@lru_cache(1024)
def hour_names(window: dt.datetime) -> tuple[str, str]:
    """As it is hashed, and as an id begins."""
    return f"{window:%Y-%m-%dT%HZ}", f"{window:%Y%m%d%H}"


def of_epoch(
    epoch: MeterEpoch, charges: Iterable[Charge], resource: Resource | Description, months: Months
) -> Iterator[Row]:
    return _rows(charges, epoch.pk, resource, months, epoch=epoch.pk)


def of_allocation(allocation: Allocation, charges: Iterable[Charge], months: Months) -> Iterator[Row]:
    return _rows(charges, allocation.pk, allocation.resource, months, allocation=allocation.pk)


def ends(tenant: str, charges: Iterable[Charge]) -> Iterator[tuple[str, dt.datetime, dt.datetime]]:
    """What :meth:`Months.lock` asks for."""
    for start_us, end_us in {(charge.start.at_us, charge.end.at_us) for charge in charges}:
        yield tenant, moment(start_us), moment(end_us)


def store(found: Iterable[Row]) -> None:
    """Their resources and periods are stored already.  Others wait for its marks, so it comes once in a transaction, after all
    that somebody else may hold.
    """
    rows = list(found)
    put(UsageRecord, FIELDS, rows)
    sums.mark((tenant, moment_of(window)) for tenant, window in {(row[TENANT], row[WINDOW]) for row in rows})


def _rows(
    charges: Iterable[Charge],
    source: str,
    resource: Resource | Description,
    months: Months,
    *,
    epoch: str | None = None,
    allocation: str | None = None,
) -> Iterator[Row]:
    tenant, resource_id = resource.tenant_id, resource.pk
    spans: dict[tuple[int, int, int, int], Span] = {}
    for charge in charges:
        start, end, meter = charge.start, charge.end, NAMES[charge.meter]
        ends = (start.at_us, start.ns, end.at_us, end.ns)
        span = spans.get(ends) or spans.setdefault(ends, _span(start, end, source, tenant, months))
        quality = NAMES[_quality(charge, len(span.pieces))]
        first = None if epoch is None else start.sequence
        last = None if epoch is None or end.ns == GONE else end.sequence
        for place, share in zip(span.places, shares(charge.quantity, span.pieces), strict=True):
            yield (
                record_id(source, meter, place[:2]), tenant, epoch, allocation, resource_id, meter, place.window,
                place.starts_at, place.ends_at, share, quality, first, last, place.period,
            )  # fmt: skip


def _quality(charge: Charge, parts: int) -> Quality:
    if charge.quality is Quality.EXACT and (charge.stepped or (parts > 1 and charge.meter in COUNTERS)):
        return Quality.ESTIMATED
    return charge.quality
