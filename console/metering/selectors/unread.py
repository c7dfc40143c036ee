"""What ran or was held up to a moment, and is not known up to it yet."""

from __future__ import annotations

import datetime as dt

from console.metering.measuring import microseconds, seen_of
from console.metering.models import Allocation, MeterEpoch


def unread(tenant_id: str, end: dt.datetime) -> list[str]:
    """Names of containers whose usage before ``end`` may not be known yet, in order."""
    running = MeterEpoch.objects.filter(tenant=tenant_id, started_at__lt=end, ended_at__isnull=True)
    waiting = set()
    for epoch in running.select_related("container").iterator(chunk_size=500):
        seen = seen_of(epoch.latest)
        if seen is None or seen.at_us < microseconds(end):
            waiting.add(epoch.container.name)
    return sorted(waiting)


def uncharged(tenant_id: str, end: dt.datetime) -> bool:
    """Whether something that was held before ``end`` has no records up to it yet."""
    held = Allocation.objects.filter(tenant=tenant_id, ended_at__isnull=True, charged_to__lt=end)
    return held.exists()
