"""What ran up to a moment and was not read since."""

from __future__ import annotations

import datetime as dt

from console.metering.measuring import microseconds, seen_of
from console.metering.models import MeterEpoch


def unread(tenant_id: str, end: dt.datetime) -> list[str]:
    """Names of containers whose usage before ``end`` may not be known yet, in order."""
    running = MeterEpoch.objects.filter(tenant=tenant_id, started_at__lt=end, ended_at__isnull=True)
    waiting = set()
    for epoch in running.select_related("container").iterator(chunk_size=500):
        seen = seen_of(epoch.latest)
        if seen is None or seen.at_us < microseconds(end):
            waiting.add(epoch.container.name)
    return sorted(waiting)
