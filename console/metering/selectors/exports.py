"""Scheduled exports as people see them, and which periods they are due for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from django.db.models import OuterRef, QuerySet, Subquery

from console.accounts.models import Tenant
from console.metering.models import ExportDelivery, ExportSchedule
from console.metering.months import month_of
from console.metering.spans import DAY, day_of

Every = ExportSchedule.Every


def schedules(tenant: Tenant | None) -> QuerySet[ExportSchedule]:
    """The tenant's own, or of None those of all tenants together; each with how its newest delivery is."""
    found = ExportSchedule.objects.filter(tenant=tenant)
    newest = ExportDelivery.objects.filter(schedule=OuterRef("pk")).order_by("-starts_at")
    return found.annotate(
        last_state=Subquery(newest.values("state")[:1]),
        last_error=Subquery(newest.values("error")[:1]),
        last_start=Subquery(newest.values("starts_at")[:1]),
    )


def deliveries(schedule: ExportSchedule) -> QuerySet[ExportDelivery]:
    """The newest period first."""
    return schedule.deliveries.order_by("-starts_at")


def period_of(every: str, at: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """The day or month that ``at`` lies in: its first moment, and the next one's."""
    if every == Every.MONTH:
        return month_of(at)
    return day_of(at), day_of(at) + DAY


def last_ended(every: str, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    start, _end = period_of(every, now)
    return period_of(every, start - DAY)


def due_since(schedule: ExportSchedule, now: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Periods that ended after it was set up, whose hour has come, and that no delivery is known of."""
    last = schedule.deliveries.order_by("-ends_at").first()
    at = max(schedule.created_at, last.ends_at) if last is not None else schedule.created_at
    start, end = period_of(schedule.every, at)
    while end + dt.timedelta(hours=schedule.hour) <= now:
        yield start, end
        start, end = period_of(schedule.every, end)


def period_name(schedule: ExportSchedule, start: dt.datetime) -> str:
    """What its folder is called: ``2026-11-24`` or ``2026-11``."""
    return f"{start:%Y-%m}" if schedule.every == Every.MONTH else f"{start:%Y-%m-%d}"
