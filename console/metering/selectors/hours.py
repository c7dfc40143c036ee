"""Records summed to what is rated: an hour of one resource on one meter."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from itertools import groupby

from django.db.models import QuerySet

from console.metering.models import Period, Quality, UsageRecord
from console.metering.rating import Used
from console.metering.sums import LIMB, rest, whole

AT_ONCE = 2000


def used_hours(period: Period) -> Iterator[list[Used]]:
    """The period's own usage, an hour at a time: whoever asks may write meanwhile."""
    yield from by_hour(UsageRecord.objects.filter(billed_in=period), period.starts_at, period.ends_at)


def by_hour(records: QuerySet[UsageRecord], start: dt.datetime, end: dt.datetime) -> Iterator[list[Used]]:
    """Of each hour from ``start`` to before ``end`` what :func:`summed` says; no cursor stays open in between.

    An hour is asked for by itself: where the whole time is asked for as well, SQLite reads all of it for each hour.
    """
    within = records.filter(window__gte=start, window__lt=end)
    for window in list(within.values_list("window", flat=True).distinct().order_by("window")):
        yield list(summed(records.filter(window=window)))


def summed(records: QuerySet[UsageRecord]) -> Iterator[Used]:
    """Of each hour, resource and meter one, in that order, streaming."""
    keys = ("window", "resource_id", "meter", "quality")
    ordered = records.values(*keys).annotate(whole=whole("quantity"), rest=rest("quantity")).order_by(*keys)
    for (window, resource), hour in groupby(
        ordered.iterator(chunk_size=AT_ONCE), key=lambda row: (row["window"], row["resource_id"])
    ):
        meters: dict[str, tuple[int, list[str]]] = {}
        for row in hour:
            quantity, qualities = meters.get(row["meter"], (0, []))
            quantity += row["whole"] * LIMB + row["rest"]
            meters[row["meter"]] = quantity, [*qualities, row["quality"]]
        for meter in sorted(meters):
            quantity, qualities = meters[meter]
            yield Used(window, resource, meter, quantity, least(qualities))


def least(qualities: Iterable[str]) -> str:
    order = [Quality.EXACT, Quality.INTEGRATED, Quality.ESTIMATED, Quality.MISSING]
    return str(max(qualities, key=lambda one: order.index(Quality(one))))
