"""What a period's bill rests on, as lines of canonical JSON: the same for a closed period, whenever it is asked for.

These lines are what the manifest's hashes are of, what an export carries and what ``verify-bill`` recomputes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db.models import Max, Min, Q

from console.metering.measuring import microseconds, moment
from console.metering.models import Allocation, MeterEpoch, Period, PriceBook, RatedLine, Reading, Resource, UsageRecord
from console.metering.models.decimals import plain
from console.metering.selectors.bills import Bill
from console.metering.selectors.prices import Prices
from console.metering.services.prices import as_data
from console.metering.sizes import Size, sizes_of

AT_ONCE = 2000
EPOCHS_AT_ONCE = 100
Source = Callable[[Period], Iterator[str]]


def line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def instant(at: dt.datetime | None) -> str | None:
    """With microseconds, always: one moment has one text."""
    return None if at is None else at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def resources(period: Period) -> Iterator[str]:
    used = UsageRecord.objects.filter(billed_in=period).values("resource")
    rated = RatedLine.objects.filter(run__current_of=period).values("resource")
    found = Resource.objects.filter(Q(pk__in=used) | Q(pk__in=rated))
    for one in found.order_by("pk").iterator(chunk_size=AT_ONCE):
        yield line(
            {"id": one.pk, "tenant": one.tenant_id, "tenant_slug": one.tenant_slug, "tenant_name": one.tenant_name,
             "kind": one.kind, "identity": one.identity, "name": one.name, "image": one.image, "node": one.node,
             **({"labels": one.labels} if one.labels else {})}
        )  # fmt: skip


def epochs(period: Period) -> Iterator[str]:
    used = UsageRecord.objects.filter(billed_in=period, epoch__isnull=False).values("epoch")
    for one in MeterEpoch.objects.filter(pk__in=used).order_by("pk").iterator(chunk_size=AT_ONCE):
        yield epoch_line(one, period.ends_at, _sizes(one, period))


def _sizes(epoch: MeterEpoch, period: Period) -> list[Size]:
    """Those before the last reading that this period's records rest on: later ones have no part in them."""
    if not epoch.sizes:
        return []
    last = epoch.records.filter(billed_in=period).aggregate(last=Max("to_sequence"))["last"]
    read = epoch.readings.filter(sequence=last).first()
    return [] if read is None else [one for one in sizes_of(epoch.sizes) if one.ns < read.boottime_ns]


def sizes_until(epoch: MeterEpoch, as_of: dt.datetime) -> list[Size]:
    return [one for one in sizes_of(epoch.sizes) if one.at_us < microseconds(as_of)]


def epoch_line(one: MeterEpoch, as_of: dt.datetime, sizes: list[Size]) -> str:
    """What ended later runs still: the line is the same whenever it is asked for."""
    ended = one.ended_at if one.ended_at is not None and one.ended_at < as_of else None
    changes = [
        {"at": instant(moment(size.at_us)), "boottime_ns": size.ns, "told_boottime_ns": size.told_ns,
         "cpu_millis": size.cpu_millis, "memory_bytes": size.memory_bytes}
        for size in sizes
    ]  # fmt: skip
    return line(
        {"id": one.pk, "container": one.container_id, "number": one.number, "node": one.node, "boot_id": one.boot_id,
         "started_at": instant(one.started_at), "started_boottime_ns": one.started_boottime_ns,
         "ended_at": instant(ended), "end_reason": one.end_reason if ended else "", "generation": one.generation,
         "cgroup_inode": one.cgroup_inode if ended else None, "cpu_millis": one.cpu_millis,
         "memory_bytes": one.memory_bytes, **({"sizes": changes} if changes else {})}
    )  # fmt: skip


def allocations(period: Period) -> Iterator[str]:
    used = UsageRecord.objects.filter(billed_in=period, allocation__isnull=False).values("allocation")
    for one in Allocation.objects.filter(pk__in=used).order_by("pk").iterator(chunk_size=AT_ONCE):
        ended = one.ended_at if one.ended_at is not None and one.ended_at < period.ends_at else None
        yield line(
            {"id": one.pk, "resource": one.resource_id, "meter": one.meter, "amount": one.amount,
             "started_at": instant(one.started_at), "ended_at": instant(ended)}
        )  # fmt: skip


def readings(period: Period) -> Iterator[str]:
    """Of each epoch from the reading that the period's first record begins at to the one that its last ends at."""
    ranges = (
        UsageRecord.objects.filter(billed_in=period, epoch__isnull=False)
        .values("epoch_id")
        .annotate(first=Min("from_sequence"), last=Max("to_sequence"))
        .order_by("epoch_id")
        .iterator(chunk_size=AT_ONCE)
    )
    while some := list(islice(ranges, EPOCHS_AT_ONCE)):
        wanted = Q(pk__in=())
        for one in some:
            if one["last"] is not None:
                wanted |= Q(epoch=one["epoch_id"], sequence__gte=one["first"] or 0, sequence__lte=one["last"])
        for reading in Reading.objects.filter(wanted).order_by("epoch", "sequence", "pk").iterator(chunk_size=AT_ONCE):
            yield reading_line(reading)


def reading_line(one: Reading) -> str:
    return line(
        {"epoch": one.epoch_id, "meter": one.meter, "sequence": one.sequence, "at": instant(one.at),
         "placed_at": instant(one.placed_at), "boottime_ns": one.boottime_ns, "value": one.value, "final": one.final,
         "source": one.source, "reason": one.reason}
    )  # fmt: skip


def records(period: Period) -> Iterator[str]:
    for one in UsageRecord.objects.filter(billed_in=period).order_by("window", "pk").iterator(chunk_size=AT_ONCE):
        yield line(
            {"id": one.pk, "epoch": one.epoch_id, "allocation": one.allocation_id, "resource": one.resource_id,
             "meter": one.meter, "window": instant(one.window), "starts_at": instant(one.starts_at),
             "ends_at": instant(one.ends_at), "quantity": one.quantity, "quality": one.quality,
             "from_sequence": one.from_sequence, "to_sequence": one.to_sequence}
        )  # fmt: skip


def lines(period: Period) -> Iterator[str]:
    names = book_names(period)

    def text(value: Decimal | None) -> str | None:
        return None if value is None else plain(value)

    found = RatedLine.objects.filter(run__current_of=period).order_by("number")
    for one in found.iterator(chunk_size=AT_ONCE):
        yield line(
            {"number": one.number, "resource": one.resource_id, "window": instant(one.window), "meter": one.meter,
             "sku": one.sku, "book": names.get(one.book_id or 0), "list_book": names.get(one.list_book_id or 0),
             "tier": one.tier, "unit": one.unit, "quantity": int(one.quantity),
             "pricing_quantity": plain(one.pricing_quantity), "list_unit_price": text(one.list_unit_price),
             "unit_price": text(one.unit_price), "list_cost": plain(one.list_cost), "cost": plain(one.cost),
             "quality": one.quality, "correction": one.correction}
        )  # fmt: skip


def book_names(period: Period) -> dict[int, str]:
    return {book.pk: book_name(book) for book in Prices(period.tenant_id).books()}


def book_name(book: PriceBook) -> str:
    return f"{'list' if book.tenant_id is None else 'contract'}-{book.version}"


def prices(period: Period) -> Iterator[str]:
    """Every published book that began to hold before the period's end, so that corrections can be recomputed too."""
    for book in Prices(period.tenant_id).books():
        if book.valid_from < period.ends_at:
            yield line({"name": book_name(book), "sha256": book.sha256, "book": as_data(book)})


def credits_given(period: Period) -> Iterator[str]:
    for one in period.credits.order_by("pk"):
        yield line(
            {"key": one.key, "amount": plain(one.amount), "reason": one.reason, "created_at": instant(one.created_at)}
        )


STREAMS: Mapping[str, Source] = {
    "resources": resources,
    "epochs": epochs,
    "allocations": allocations,
    "readings": readings,
    "records": records,
    "lines": lines,
    "prices": prices,
    "credits": credits_given,
}


def manifest(period: Period, bill: Bill, issued_at: dt.datetime | None, previous: str) -> str:
    """Canonical JSON of what a bill rests on.  Of a closed period it was made once, see ``Invoice.manifest``."""
    data = {
        "format": "slipway-bill-1",
        "tenant": {"id": period.tenant_id, "slug": period.tenant.slug, "name": bill.tenant_name},
        "period": {"start": instant(period.starts_at), "end": instant(period.ends_at), "state": bill.state},
        "invoice": {
            "number": bill.number,
            "currency": bill.currency,
            "charges": plain(bill.charges),
            "credits": plain(bill.credits),
            "adjustment": plain(bill.adjustment),
            "payable": plain(bill.payable),
            "issued_at": instant(issued_at),
        },
        "streams": {name: digest(source(period)) for name, source in STREAMS.items()},
        "previous": previous,
    }
    return line(data)


def digest(found: Iterator[str]) -> dict[str, Any]:
    """Of the lines, each with its newline: the hash of the file that they make."""
    hashed, count = hashlib.sha256(), 0
    for one in found:
        hashed.update(one.encode() + b"\n")
        count += 1
    return {"lines": count, "sha256": hashed.hexdigest()}
