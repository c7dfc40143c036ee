"""What is held over time and known exactly from events: ports, volumes.  Every call may come twice."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping

from django.db import transaction
from django.db.models import Max

from console.metering import rows
from console.metering.measuring import Charge, Mark, microseconds
from console.metering.models import Allocation, Meter, Quality
from console.metering.services import records, resources
from console.metering.services.months import Months
from console.metering.services.resources import Description
from console.metering.splitting import stretches

ROW = ("self",)
"""Locked alone, without what it refers to."""


@transaction.atomic
def hold(resource: Description, meter: Meter, amount: int, at: dt.datetime) -> Allocation:
    """From ``at`` on.  Held already with this amount: as it is; with another: that one ends here.

    What was released before begins anew where that ended, at the earliest: no time is held twice.
    """
    return _hold(resource, {meter: amount}, at)[0]


@transaction.atomic
def release(identity: str, meter: Meter, at: dt.datetime) -> None:
    """Held until ``at``.  Not held: does nothing."""
    _charge(_end((one for one in _open(identity) if one.meter == meter), at), at)


@transaction.atomic
def release_all(identity: str, at: dt.datetime) -> None:
    """Whatever it holds, until ``at``."""
    _charge(_end(_open(identity), at), at)


@transaction.atomic
def call(resource: Description, at: dt.datetime) -> None:
    """What its identity holds is held by ``resource`` from ``at`` on: the same thing under another name, or with other labels."""
    _hold(resource, {Meter(one.meter): one.amount for one in _open(resource.identity)}, at)


@transaction.atomic
def charge(as_of: dt.datetime) -> int:
    """Record what is held, up to the full hour before ``as_of``; returns how many allocations had something."""
    hour = as_of.replace(minute=0, second=0, microsecond=0)
    due = Allocation.objects.select_for_update(of=ROW).select_related("resource")
    found = list(due.filter(ended_at__isnull=True, charged_to__lt=hour).order_by("pk"))
    _charge(found, hour)
    return len(found)


def _open(identity: str) -> list[Allocation]:
    """Each locked until the end of the transaction, in the order in which :func:`charge` locks those of everybody."""
    found = Allocation.objects.select_for_update(of=ROW).select_related("resource")
    return list(found.filter(identity=identity, ended_at__isnull=True).order_by("pk"))


def _hold(resource: Description, amounts: Mapping[Meter, int], at: dt.datetime) -> list[Allocation]:
    """Of each meter, in order."""
    before = {Meter(one.meter): one for one in _open(resource.identity)}
    same = {
        meter: one
        for meter, one in before.items()
        if (one.amount, one.resource_id) == (amounts.get(meter), resource.pk)
    }
    others = [meter for meter in amounts if meter not in same]
    if others:
        resources.store([resource])
    ended = _end((before[meter] for meter in others if meter in before), at)
    begun = {meter: _begin(resource, meter, amounts[meter], at) for meter in others}
    _charge(ended, at)
    return [same.get(meter) or begun[meter] for meter in amounts]


def _begin(resource: Description, meter: Meter, amount: int, at: dt.datetime) -> Allocation:
    at = max(at, _ended(resource.identity, meter) or at)
    key = f"{resource.identity}|{meter}|{microseconds(at)}"
    return Allocation.objects.create(
        id=hashlib.sha256(key.encode()).hexdigest(),
        tenant_id=resource.tenant_id,
        resource_id=resource.id,
        identity=resource.identity,
        meter=meter,
        amount=amount,
        started_at=at,
        charged_to=at,
    )


def _ended(identity: str, meter: Meter) -> dt.datetime | None:
    found = Allocation.objects.filter(identity=identity, meter=meter, ended_at__isnull=False)
    last: dt.datetime | None = found.aggregate(last=Max("ended_at"))["last"]
    return last


def _end(allocations: Iterable[Allocation], at: dt.datetime) -> list[Allocation]:
    """Those that were held for some time, for :func:`_charge`; the others are deleted."""
    ended = []
    for one in allocations:
        if max(at, one.charged_to) == one.started_at:
            one.delete()
            continue
        one.ended_at = max(at, one.charged_to)
        one.save(update_fields=["ended_at"])
        ended.append(one)
    return ended


def _charge(allocations: Iterable[Allocation], until: dt.datetime) -> None:
    """Each up to ``until``, all together and last: others wait for the marks of records.  Charged further already: does nothing."""
    due = [one for one in allocations if one.charged_to < until]
    months = Months()
    months.lock((one.tenant_id, one.charged_to, until) for one in due)
    found = [row for one in due for row in records.of_allocation(one, _held(one, until), months)]
    for one in due:
        one.charged_to = until
    rows.update(Allocation, ("charged_to",), due)
    records.store(found)


def _held(allocation: Allocation, until: dt.datetime) -> Iterator[Charge]:
    begin, amount = microseconds(allocation.charged_to), allocation.amount
    length = microseconds(until) - begin
    for first, last in stretches(amount, length, length):
        start, end = Mark(0, begin + first, 0), Mark(0, begin + last, 0)
        yield Charge(Meter(allocation.meter), amount * (last - first), start, end, Quality.EXACT, False)
