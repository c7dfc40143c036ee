"""Records summed to what is rated: an hour of one resource on one meter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from django.db.models import QuerySet

from console.metering.models import Period, Quality, UsageRecord
from console.metering.rating import Used
from console.metering.sums import LIMB, rest, whole

AT_ONCE = 2000


def used_hours(period: Period) -> Iterator[list[Used]]:
    """The period's own usage, an hour at a time: whoever asks may write meanwhile."""
    own = UsageRecord.objects.filter(billed_in=period, window__gte=period.starts_at, window__lt=period.ends_at)
    yield from by_hour(own)


def by_hour(records: QuerySet[UsageRecord]) -> Iterator[list[Used]]:
    """Of each hour what :func:`summed` says; no cursor stays open in between."""
    windows = list(records.values_list("window", flat=True).distinct().order_by("window"))
    for window in windows:
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
