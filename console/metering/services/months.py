"""The period that a record is billed in: its month's or, when that was closed before the record came, the one open then.

Closing goes in order, so it closes the months before it as well, also those that a tenant has no period of: nothing was used in them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import lru_cache

from django.db import connection, transaction

from console.metering.models import Period
from console.metering.months import month_of

LAST = dt.datetime.max.replace(tzinfo=dt.UTC)


class Months:
    """Periods for the records of one transaction.  Each is locked, so that none is closed meanwhile; others may write records too."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, dt.datetime], int] = {}

    def lock(self, spans: Iterable[tuple[str, dt.datetime, dt.datetime]]) -> None:
        """All months of these tenants' intervals, in one order for everybody, so that two never wait for each other."""
        wanted: set[tuple[str, dt.datetime]] = set()
        start = end = dt.datetime.min.replace(tzinfo=dt.UTC)
        for tenant, first, last in set(spans):
            if not start <= first < end:  # nearly all are of one month
                start, end = month_of(first)
            while True:
                wanted.add((tenant, start))
                if last <= end:
                    break
                start, end = month_of(end)
        for tenant, start in sorted(wanted):
            self.period_id(tenant, start)

    def period_id(self, tenant_id: str, window: dt.datetime) -> int:
        """Of the month of ``window``, an hour."""
        key = (tenant_id, _month(window))
        if key not in self._known:
            self._known[key] = _open_period(*key).pk
        return self._known[key]


@lru_cache(1024)
def _month(window: dt.datetime) -> dt.datetime:
    return month_of(window)[0]


def _open_period(tenant_id: str, start: dt.datetime) -> Period:
    assert transaction.get_connection().in_atomic_block
    while True:
        start, end = month_of(start)
        for period in _shared(tenant_id, start, end) or _made(tenant_id, start, end):
            if period.state == Period.State.OPEN:
                return period
        start = end


def _made(tenant_id: str, start: dt.datetime, end: dt.datetime) -> list[Period]:
    """Nothing: a later month was closed already, or is being closed."""
    if any(later.state != Period.State.OPEN for later in _shared(tenant_id, end, LAST)):
        return []
    Period.objects.get_or_create(tenant_id=tenant_id, starts_at=start, defaults={"ends_at": end})
    return _shared(tenant_id, start, end)


def _shared(tenant_id: str, first: dt.datetime, end: dt.datetime) -> list[Period]:
    """Those that start from ``first`` to before ``end``, in order, as they are once whoever was changing them has committed; nobody changes
    them until we have.
    """
    if connection.vendor == "sqlite":  # one writer at a time
        found = Period.objects.filter(tenant_id=tenant_id, starts_at__gte=first, starts_at__lt=end)
        return list(found.order_by("starts_at"))
    table = connection.ops.quote_name(Period._meta.db_table)  # noqa: SLF001 -- Django's documented API
    statement = (
        f"SELECT * FROM {table} WHERE tenant_id = %s AND starts_at >= %s AND starts_at < %s "  # noqa: S608 -- our own name
        "ORDER BY starts_at FOR SHARE"
    )
    return list(Period.objects.raw(statement, [tenant_id, first, end]))
