"""The period that a record is billed in: its month's, or the open one when that was closed before the record came."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db import transaction

from console.metering.models import Period
from console.metering.months import month_of


class Months:
    """Periods for the records of one transaction.  Each is locked, so that none is closed meanwhile."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, dt.datetime], int] = {}

    def lock(self, spans: Iterable[tuple[str, dt.datetime, dt.datetime]]) -> None:
        """All months of these tenants' intervals, in one order for everybody, so that two never wait for each other."""
        wanted = set()
        for tenant, first, last in set(spans):
            start, end = month_of(first)
            while True:
                wanted.add((tenant, start))
                if last <= end:
                    break
                start, end = month_of(end)
        for tenant, start in sorted(wanted):
            self.period_id(tenant, start)

    def period_id(self, tenant_id: str, window: dt.datetime) -> int:
        key = (tenant_id, month_of(window)[0])
        if key not in self._known:
            self._known[key] = _open_period(*key).pk
        return self._known[key]


def _open_period(tenant_id: str, start: dt.datetime) -> Period:
    assert transaction.get_connection().in_atomic_block
    while True:
        start, end = month_of(start)
        Period.objects.get_or_create(tenant_id=tenant_id, starts_at=start, defaults={"ends_at": end})
        period = Period.objects.select_for_update().get(tenant_id=tenant_id, starts_at=start)
        if period.state == Period.State.OPEN:
            return period
        start = end
