"""Records summed to what is rated: an hour of one resource on one meter."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from django.db.models import Count, QuerySet

from console.metering.models import Period, Quality, UsageRecord
from console.metering.rating import Used
from console.metering.sums import LIMB, rest, whole

AT_ONCE = 2000


def used_hours(period: Period, since: dt.datetime) -> Iterator[list[Used]]:
    """The period's own usage from ``since`` on, an hour at a time: whoever asks may write meanwhile."""
    yield from by_hour(UsageRecord.objects.filter(billed_in=period), max(since, period.starts_at), period.ends_at)


def records_before(period: Period, hour: dt.datetime) -> int:
    """How many of the period's own lie before ``hour``.  None is ever changed or taken away, so the same number says that they are the same."""
    return UsageRecord.objects.filter(billed_in=period, window__gte=period.starts_at, window__lt=hour).count()


def by_hour(records: QuerySet[UsageRecord], start: dt.datetime, end: dt.datetime) -> Iterator[list[Used]]:
    """Of each hour from ``start`` to before ``end`` what was used in it, by resource and meter; no cursor stays open in between.

    An hour is asked for by itself: where the whole time is asked for as well, SQLite reads all of it for each hour.
    """
    within = records.filter(window__gte=start, window__lt=end)
    for window in list(within.values_list("window", flat=True).distinct().order_by("window")):
        yield list(_summed(records.filter(window=window), window))


def _summed(records: QuerySet[UsageRecord], window: dt.datetime) -> Iterator[Used]:
    """Of each resource and meter one, in that order."""
    keys = ("resource_id", "meter", "quality")
    sums = records.values(*keys).annotate(whole=whole("quantity"), rest=rest("quantity"), count=Count("pk"))
    rows = sums.order_by(*keys).values_list(*keys, "whole", "rest", "count").iterator(AT_ONCE)
    for (resource, meter), found in groupby(rows, key=itemgetter(0, 1)):
        quantity, records_count, qualities = 0, 0, []
        for _resource, _meter, quality, large, small, count in found:
            quantity += large * LIMB + small
            records_count += count
            qualities.append(quality)
        yield Used(window, resource, meter, quantity, least(qualities), records_count)


def least(qualities: Iterable[str]) -> str:
    order = [Quality.EXACT, Quality.INTEGRATED, Quality.ESTIMATED, Quality.MISSING]
    return str(max(qualities, key=lambda one: order.index(Quality(one))))
