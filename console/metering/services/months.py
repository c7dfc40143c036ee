"""The period that a record is billed in: its month's, or the open one when that was closed before the record came."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from console.metering.models import Period
from console.metering.months import month_of


class Months:
    """Periods for the records of one transaction.  Each is locked, so that none is closed meanwhile."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, dt.datetime], int] = {}

    def period_id(self, tenant_id: str, window: dt.datetime) -> int:
        key = (tenant_id, window)
        if key not in self._known:
            self._known[key] = _open_period(tenant_id, month_of(window)[0]).pk
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
