"""What running containers have used since their last stored reading: for the screen, until the next one makes records of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from console.accounts.models import Tenant
from console.metering.measuring import COUNTERS, Mark, marks_of, moment, seen_of
from console.metering.models import Meter, MeterEpoch
from console.metering.sizes import METERS, held, rates, sizes_of
from console.metering.splitting import hour_of


@dataclass(frozen=True, slots=True)
class Tail:
    tenant: str
    """Slug."""
    tenant_id: str
    container_id: str
    image: str
    labels: Mapping[str, str]
    """As they are now, for they are not in a record yet; likewise the image."""
    window: dt.datetime
    """The UTC hour; a tail lies in one, for a look past the hour stores a reading."""
    quantities: dict[str, int]
    """By meter, in its base unit."""


def tails(tenant: Tenant | None, start: dt.datetime, end: dt.datetime) -> Iterator[Tail]:
    """Of the epochs that run, where the tail lies in ``[start, end)``."""
    found = MeterEpoch.objects.filter(ended_at__isnull=True).exclude(latest={})
    if tenant is not None:
        found = found.filter(tenant=tenant)
    for epoch in found.select_related("tenant", "container").iterator(chunk_size=500):
        seen = seen_of(epoch.latest)
        if seen is None or seen.stored:
            continue
        window = hour_of(moment(seen.at_us))
        if start <= window < end:
            yield Tail(
                epoch.tenant.slug,
                epoch.tenant_id,
                epoch.container_id,
                epoch.container.image_reference,
                epoch.container.labels,
                window,
                _quantities(epoch),
            )


def _quantities(epoch: MeterEpoch) -> dict[str, int]:
    seen, marks = seen_of(epoch.latest), marks_of(epoch.marks)
    assert seen is not None
    found: dict[str, int] = {}
    for meter in COUNTERS:
        value = seen.values.get(meter)
        if value is not None:
            found[meter] = max(0, value - marks.get(meter, Mark(0, 0, 0)).value)
    first, sizes = rates(epoch.memory_bytes, epoch.cpu_millis), sizes_of(epoch.sizes)
    for limit in METERS:
        if limit in marks:
            found[limit] = held(first, sizes, limit, marks[limit].ns, seen.ns)
    if seen.gauge is not None:
        found[Meter.MEMORY_USED] = seen.integral
    return found
