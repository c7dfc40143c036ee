"""The period that a record is billed in: its month's, or the open one when that was closed before the record came."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import lru_cache

from django.db import connection, transaction

from console.metering.models import Period
from console.metering.months import month_of


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
        Period.objects.get_or_create(tenant_id=tenant_id, starts_at=start, defaults={"ends_at": end})
        period = _shared(tenant_id, start)
        if period.state == Period.State.OPEN:
            return period
        start = end


def _shared(tenant_id: str, start: dt.datetime) -> Period:
    """As it is once whoever was changing it has committed; nobody changes it until we have."""
    if connection.vendor == "sqlite":  # one writer at a time
        return Period.objects.get(tenant_id=tenant_id, starts_at=start)
    table = connection.ops.quote_name(Period._meta.db_table)  # noqa: SLF001 -- Django's documented API
    statement = f"SELECT * FROM {table} WHERE tenant_id = %s AND starts_at = %s FOR SHARE"  # noqa: S608 -- our own name
    return Period.objects.raw(statement, [tenant_id, start])[0]
