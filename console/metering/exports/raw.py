"""Raw readings of a time, as JSON lines: what the kernel's counters said, and the lives of the containers that were read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import islice

from django.db.models import Q, QuerySet

from console.accounts.models import Tenant
from console.metering.evidence import AT_ONCE, EPOCHS_AT_ONCE, epoch_line, reading_line, sizes_until
from console.metering.models import MeterEpoch, Reading


def epochs(tenant: Tenant, start: dt.datetime, end: dt.datetime) -> Iterator[str]:
    """Those that ran in it."""
    for one in _ran(tenant, start, end).iterator(chunk_size=AT_ONCE):
        yield epoch_line(one, end, sizes_until(one, end)) + "\n"


def readings(tenant: Tenant, start: dt.datetime, end: dt.datetime) -> Iterator[str]:
    """Those whose wall time lies in it, by epoch and in their order."""
    ids = _ran(tenant, start, end).values_list("pk", flat=True).iterator(chunk_size=AT_ONCE)
    while some := list(islice(ids, EPOCHS_AT_ONCE)):
        found = Reading.objects.filter(epoch__in=some, at__gte=start, at__lt=end).order_by("epoch", "sequence", "meter")
        for one in found.iterator(chunk_size=AT_ONCE):
            yield reading_line(one) + "\n"


def _ran(tenant: Tenant, start: dt.datetime, end: dt.datetime) -> QuerySet[MeterEpoch]:
    open_then = Q(ended_at__isnull=True) | Q(ended_at__gte=start)
    return MeterEpoch.objects.of(tenant).filter(open_then, started_at__lt=end).order_by("pk")
