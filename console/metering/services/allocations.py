"""What is held over time and known exactly from events: ports, volumes.  Every call may come twice."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Max

from console.metering import rows
from console.metering.measuring import Charge, Mark, microseconds
from console.metering.models import Allocation, Meter, Quality, Resource
from console.metering.services import records, resources
from console.metering.services.months import Months

ROW = ("self",)
"""Locked alone, without what it refers to."""


@transaction.atomic
def hold(resource: Resource, meter: Meter, amount: int, at: dt.datetime) -> Allocation:
    """From ``at`` on.  Held already with this amount: as it is; with another: that one ends here.

    What was released before begins anew where that ended, at the earliest: no time is held twice.
    """
    found = _open(resource.identity, meter)
    if found is not None and (found.amount, found.resource_id) == (amount, resource.pk):
        return found
    resources.store([resource])  # before the marks of what ends: everybody locks in this order
    if found is not None:
        _end(found, at)
    at = max(at, _ended(resource.identity, meter) or at)
    key = f"{resource.identity}|{meter}|{microseconds(at)}"
    return Allocation.objects.create(
        id=hashlib.sha256(key.encode()).hexdigest(),
        tenant_id=resource.tenant_id,
        resource=resource,
        identity=resource.identity,
        meter=meter,
        amount=amount,
        started_at=at,
        charged_to=at,
    )


@transaction.atomic
def release(identity: str, meter: Meter, at: dt.datetime) -> None:
    """Held until ``at``.  Not held: does nothing."""
    found = _open(identity, meter)
    if found is not None:
        _end(found, at)


@transaction.atomic
def call(resource: Resource, at: dt.datetime) -> None:
    """What its identity holds is held by ``resource`` from ``at`` on: the same thing under another name, or with other labels."""
    for found in Allocation.objects.filter(identity=resource.identity, ended_at__isnull=True).order_by("pk"):
        hold(resource, Meter(found.meter), found.amount, at)


@transaction.atomic
def charge(as_of: dt.datetime) -> int:
    """Record what is held, up to the full hour before ``as_of``; returns how many allocations had something."""
    hour = as_of.replace(minute=0, second=0, microsecond=0)
    due = Allocation.objects.select_for_update(of=ROW).select_related("resource")
    found = list(due.filter(ended_at__isnull=True, charged_to__lt=hour).order_by("pk"))
    _charge(found, hour)
    return len(found)


def _open(identity: str, meter: Meter) -> Allocation | None:
    found = Allocation.objects.select_for_update(of=ROW).select_related("resource")
    return found.filter(identity=identity, meter=meter, ended_at__isnull=True).first()


def _ended(identity: str, meter: Meter) -> dt.datetime | None:
    found = Allocation.objects.filter(identity=identity, meter=meter, ended_at__isnull=False)
    last: dt.datetime | None = found.aggregate(last=Max("ended_at"))["last"]
    return last


def _end(allocation: Allocation, at: dt.datetime) -> None:
    if max(at, allocation.charged_to) == allocation.started_at:
        allocation.delete()  # it was held no time
        return
    allocation.ended_at = max(at, allocation.charged_to)
    allocation.save(update_fields=["ended_at"])
    _charge([allocation], allocation.ended_at)


def _charge(allocations: Sequence[Allocation], until: dt.datetime) -> None:
    due = [one for one in allocations if one.charged_to < until]
    months = Months()
    months.lock((one.tenant_id, one.charged_to, until) for one in due)
    found = [row for one in due for row in records.of_allocation(one, _held(one, until), months)]
    for one in due:
        one.charged_to = until
    rows.update(Allocation, ("charged_to",), due)
    records.store(found)


def _held(allocation: Allocation, until: dt.datetime) -> Charge:
    start, end = microseconds(allocation.charged_to), microseconds(until)
    return Charge(
        Meter(allocation.meter),
        allocation.amount * (end - start),
        Mark(0, start, 0),
        Mark(0, end, 0),
        Quality.EXACT,
        False,
    )
