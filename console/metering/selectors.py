"""Usage as people read it: records summed by container and window, in exact decimals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any, Literal

from django.db.models import QuerySet, Sum
from django.db.models.functions import TruncDay, TruncMonth

from console.accounts.models import Tenant
from console.metering.models import Meter, Quality, UsageRecord
from console.workloads.models import Container

By = Literal["hour", "day", "month", "total"]
NS = Decimal(10**9)
US = Decimal(10**6)
KIB_PER_GIB = Decimal(2**20)
MILLI = Decimal(1000)
COUNTERS = {Meter.CPU, Meter.BLOCK_READ, Meter.BLOCK_WRITE, Meter.NET_RX, Meter.NET_TX}


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One container in one window.  Exact but for memory_used, which is an integral of samples.

    None: the kernel did not say, which is not a zero.  ``quality`` is then ``incomplete``, as it is where a part is missing.
    """

    tenant: str
    container_id: str
    container_name: str
    image: str
    window: dt.datetime | None
    vcpu_seconds: Decimal | None
    vcpu_limit_seconds: Decimal
    memory_limit_gib_seconds: Decimal
    memory_used_gib_seconds: Decimal | None
    net_rx_bytes: int | None
    net_tx_bytes: int | None
    block_read_bytes: int | None
    block_write_bytes: int | None
    quality: str


def _records(tenant: Tenant | None, start: dt.datetime, end: dt.datetime) -> QuerySet[UsageRecord]:
    found = UsageRecord.objects.filter(window__gte=start, window__lt=end)
    return found if tenant is None else found.filter(tenant=tenant)


def usage(tenant: Tenant | None, start: dt.datetime, end: dt.datetime, *, by: By) -> Iterator[UsageRow]:
    """By window, tenant and container, streaming.  ``tenant`` None: everybody's, for admins."""
    window: dict[str, Any] = {}
    if by in {"day", "month"}:
        window["at"] = (TruncDay if by == "day" else TruncMonth)("window", tzinfo=dt.UTC)
    keys = ["tenant__slug", "epoch__container_id"]
    if by == "hour":
        keys.insert(0, "window")
    elif window:
        keys.insert(0, "at")
    hours = [*keys, "meter", "quality"] if by == "hour" else [*keys, "window", "meter", "quality"]
    sums = _records(tenant, start, end).annotate(**window).values(*hours).annotate(sum=Sum("quantity"))
    rows = sums.order_by(*hours).iterator(chunk_size=2000)
    names = {}
    for key, group in groupby(rows, key=lambda row: tuple(row[name] for name in keys)):
        container = key[-1]
        if container not in names:
            names[container] = Container.objects.values_list("name", "image_reference").get(pk=container)
        yield _row(key[0] if len(keys) > 2 else None, key[-2], container, names[container], list(group))


def _row(
    window: dt.datetime | None, tenant: str, container: str, names: tuple[str, str], group: list[dict[str, Any]]
) -> UsageRow:
    sums: dict[str, int] = {}
    for row in group:
        if row["quality"] != Quality.MISSING:
            # in Python: a year of gibibytes does not fit the database's integers
            sums[row["meter"]] = sums.get(row["meter"], 0) + row["sum"]
    cpu, used = sums.get(Meter.CPU), sums.get(Meter.MEMORY_USED)
    return UsageRow(
        tenant=tenant,
        container_id=container,
        container_name=names[0],
        image=names[1],
        window=window,
        vcpu_seconds=None if cpu is None else cpu / NS,
        vcpu_limit_seconds=sums.get(Meter.CPU_LIMIT, 0) / MILLI / US,
        memory_limit_gib_seconds=sums.get(Meter.MEMORY_LIMIT, 0) / KIB_PER_GIB / US,
        memory_used_gib_seconds=None if used is None else used / KIB_PER_GIB / US,
        net_rx_bytes=sums.get(Meter.NET_RX),
        net_tx_bytes=sums.get(Meter.NET_TX),
        block_read_bytes=sums.get(Meter.BLOCK_READ),
        block_write_bytes=sums.get(Meter.BLOCK_WRITE),
        quality=_quality(group, sums),
    )


def _quality(group: list[dict[str, Any]], sums: Mapping[str, int]) -> str:
    """Of the counters; a part that is missing, or a meter that the kernel did not give, makes the row incomplete."""
    gaps = any(row["quality"] == Quality.MISSING for row in group)
    return "incomplete" if gaps or COUNTERS - sums.keys() else str(Quality.EXACT)
