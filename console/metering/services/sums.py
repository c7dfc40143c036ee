"""Sums of records by the day and the month: marked stale by whoever stores records, made anew by the schedule."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db import transaction
from django.db.models import F, Sum

from console.metering.models import Quality, StaleDay, UsageDay, UsageMonth, UsageRecord
from console.metering.months import month_of
from console.metering.rows import insert
from console.metering.spans import DAY, day_of
from console.metering.sums import LIMB, rest, whole

FIELDS = ("tenant_id", "day", "resource_id", "meter", "whole", "rest")
MONTH_FIELDS = ("tenant_id", "month", "resource_id", "meter", "whole", "rest")


def mark(found: Iterable[tuple[str, dt.datetime]]) -> None:
    """Tenants and hours of records that this transaction stores.  In order, so that two never wait for each other."""
    days = sorted({(tenant, day_of(window)) for tenant, window in set(found)})
    StaleDay.objects.bulk_create(
        [StaleDay(tenant_id=tenant, day=day) for tenant, day in days],
        update_conflicts=True, unique_fields=["tenant", "day"], update_fields=["marks"],
    )  # fmt: skip


def refresh() -> int:
    """Every stale day; returns how many."""
    stale = list(StaleDay.objects.order_by("day", "tenant").values_list("tenant", "day"))
    for tenant, day in stale:
        sum_day(tenant, day)
    return len(stale)


@transaction.atomic
def sum_day(tenant: str, day: dt.datetime) -> None:
    """The mark goes first: who stores records meanwhile waits, or is seen, or marks the day again."""
    StaleDay.objects.filter(tenant=tenant, day=day).delete()
    records = UsageRecord.objects.filter(tenant=tenant, window__gte=day, window__lt=day + DAY)
    known = records.exclude(quality=Quality.MISSING).values("resource_id", "meter")
    sums = known.annotate(whole=whole("quantity"), rest=rest("quantity")).values_list(
        F("resource_id"), F("meter"), F("whole"), F("rest")
    )
    rows = [
        (tenant, day, resource, meter, *divmod(large * LIMB + small, LIMB)) for resource, meter, large, small in sums
    ]
    UsageDay.objects.filter(tenant=tenant, day=day).delete()
    insert(UsageDay, FIELDS, rows)
    _sum_month(tenant, *month_of(day))


def _sum_month(tenant: str, start: dt.datetime, end: dt.datetime) -> None:
    days = UsageDay.objects.filter(tenant=tenant, day__gte=start, day__lt=end).values("resource_id", "meter")
    sums = days.annotate(large=Sum("whole"), small=Sum("rest")).values_list("resource_id", "meter", "large", "small")
    rows = [
        (tenant, start, resource, meter, *divmod(int(large) * LIMB + int(small), LIMB))
        for resource, meter, large, small in sums
    ]
    UsageMonth.objects.filter(tenant=tenant, month=start).delete()
    insert(UsageMonth, MONTH_FIELDS, rows)
