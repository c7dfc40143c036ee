"""Usage as people read it: records summed by container and window, in exact decimals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any, Literal

from django.db.models import Max, Min, QuerySet
from django.db.models.functions import TruncDay, TruncMonth

from console.accounts.models import Tenant
from console.metering.models import Meter, Quality, Resource, UsageRecord
from console.metering.months import month_of
from console.metering.selectors.tails import tails
from console.metering.splitting import HOUR
from console.metering.sums import LIMB, rest, whole
from console.metering.units import UNITS, in_units
from console.workloads.models import Container

By = Literal["hour", "day", "month", "total"]
CORE_SECOND = UNITS[Meter.CPU]["Core-Seconds"]
GIB_SECOND = UNITS[Meter.MEMORY_LIMIT]["GiB-Seconds"]
COUNTERS = {Meter.CPU, Meter.BLOCK_READ, Meter.BLOCK_WRITE, Meter.NET_RX, Meter.NET_TX}


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One container in one window.  Exact but for memory_used, which is an integral of samples.

    None: the kernel did not say, which is not a zero.  ``quality`` is then ``incomplete``, as it is where a part is missing;
    it is ``estimated`` where a difference that reaches over the window's edge was divided by time.
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
    """Of containers: what a tenant holds beside them (a published port) has records of its own and no row here."""
    found = UsageRecord.objects.filter(window__gte=start, window__lt=end, epoch__isnull=False)
    return found if tenant is None else found.filter(tenant=tenant)


def usage(tenant: Tenant | None, start: dt.datetime, end: dt.datetime, *, by: By) -> Iterator[UsageRow]:
    """By window, tenant and container, streaming.  ``tenant`` None: everybody's, for admins.

    Of running containers what they used since their last stored reading is in it.
    """
    window: dict[str, Any] = {}
    if by in {"day", "month"}:
        window["at"] = (TruncDay if by == "day" else TruncMonth)("window", tzinfo=dt.UTC)
    keys = ["tenant__slug", "epoch__container_id"]
    if by == "hour":
        keys.insert(0, "window")
    elif window:
        keys.insert(0, "at")
    hours = [*keys, *([] if by == "hour" else ["window"]), "meter", "quality", "resource_id"]
    sums = _records(tenant, start, end).annotate(**window).values(*hours)
    halves = {"whole": whole("quantity"), "rest": rest("quantity")}
    rows = sums.annotate(**halves, first=Min("starts_at"), last=Max("ends_at")).order_by(*hours)
    since = _since(tenant, start, end, by)
    names = _Names()

    def row(key: tuple[Any, ...], group: list[dict[str, Any]]) -> UsageRow:
        at = key[0] if len(key) > 2 else None
        edges = (start, end) if at is None else (at, _after(at, by))
        return _row(at, key[-2], key[-1], names.of(key[-1], group), group, edges)

    for key, group in groupby(rows.iterator(chunk_size=2000), key=lambda found: tuple(found[name] for name in keys)):
        yield row(key, [*group, *since.pop(key, ())])
    for key, left in since.items():
        yield row(key, left)


class _Names:
    """Name and image of a row's container: as it was metered last in that time, or as it is where it was used since."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, str]] = {}

    def of(self, container: str, group: Iterable[dict[str, Any]]) -> tuple[str, str]:
        rows = list(group)
        if any(row["last"] is None for row in rows):
            return self._asked(container, Container.objects.values_list("name", "image_reference"))
        last = max(rows, key=lambda row: (row["last"], row["resource_id"]))["resource_id"]
        return self._asked(last, Resource.objects.values_list("name", "image"))

    def _asked(self, pk: str, found: QuerySet[Any, tuple[str, str]]) -> tuple[str, str]:
        if pk not in self._known:
            self._known[pk] = found.get(pk=pk)
        return self._known[pk]


def _since(
    tenant: Tenant | None, start: dt.datetime, end: dt.datetime, by: By
) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """The tails of running containers as rows like the database's, by the key of their group."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for tail in tails(tenant, start, end):
        window = {"hour": tail.window, "day": tail.window.replace(hour=0), "month": month_of(tail.window)[0]}.get(by)
        key = (tail.tenant, tail.container_id) if window is None else (window, tail.tenant, tail.container_id)
        found.setdefault(key, []).extend(
            {"meter": meter, "quality": Quality.EXACT, "whole": 0, "rest": quantity, "first": None, "last": None}
            for meter, quantity in tail.quantities.items()
        )
    return found


def _after(window: dt.datetime, by: By) -> dt.datetime:
    if by == "hour":
        return window + HOUR
    return window + dt.timedelta(days=1) if by == "day" else month_of(window)[1]


def _row(
    window: dt.datetime | None,
    tenant: str,
    container: str,
    names: tuple[str, str],
    group: list[dict[str, Any]],
    edges: tuple[dt.datetime, dt.datetime],
) -> UsageRow:
    sums: dict[str, int] = {}
    for row in group:
        if row["quality"] != Quality.MISSING:
            # in Python: a year of gibibytes does not fit the database's integers
            sums[row["meter"]] = sums.get(row["meter"], 0) + row["whole"] * LIMB + row["rest"]
    cpu, used = sums.get(Meter.CPU), sums.get(Meter.MEMORY_USED)
    return UsageRow(
        tenant=tenant,
        container_id=container,
        container_name=names[0],
        image=names[1],
        window=window,
        vcpu_seconds=None if cpu is None else in_units(cpu, CORE_SECOND),
        vcpu_limit_seconds=in_units(sums.get(Meter.CPU_LIMIT, 0), CORE_SECOND),
        memory_limit_gib_seconds=in_units(sums.get(Meter.MEMORY_LIMIT, 0), GIB_SECOND),
        memory_used_gib_seconds=None if used is None else in_units(used, GIB_SECOND),
        net_rx_bytes=sums.get(Meter.NET_RX),
        net_tx_bytes=sums.get(Meter.NET_TX),
        block_read_bytes=sums.get(Meter.BLOCK_READ),
        block_write_bytes=sums.get(Meter.BLOCK_WRITE),
        quality=_quality(group, sums, edges),
    )


def _quality(group: list[dict[str, Any]], sums: Mapping[str, int], edges: tuple[dt.datetime, dt.datetime]) -> str:
    """Of the counters; a part that is missing, or a meter that the kernel did not give, makes the row incomplete."""
    if COUNTERS - sums.keys() or any(row["quality"] == Quality.MISSING for row in group):
        return "incomplete"
    divided = [row for row in group if row["quality"] == Quality.ESTIMATED]
    at_edge = any(row["first"] <= edges[0] or row["last"] >= edges[1] for row in divided)
    return str(Quality.ESTIMATED if at_edge else Quality.EXACT)
