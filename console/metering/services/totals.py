"""Looks at the tenants' cgroups into hours.  Every call may come twice, and out of a crash; the sums stay the same."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db import transaction

from console.accounts.models import Tenant
from console.metering.measuring import LONGEST_STEP_US, MICROSECOND, moment
from console.metering.models import MeterEpoch, TenantCgroup, TenantHour
from console.metering.observations import TotalLook
from console.metering.splitting import hour_of, split

Hours = dict[tuple[int, dt.datetime], TenantHour]
"""By the cgroup's row and the hour."""
LONGEST_STEP = LONGEST_STEP_US * MICROSECOND
BORN_WITHIN = dt.timedelta(days=1)
"""Of its first look: a cgroup that is older was not watched from its start, and its counter only begins to be compared."""


def take(looks: Iterable[TotalLook], node: str) -> None:
    """In order of boot time.  One that is not after the last of its cgroup changes nothing, nor does a tenant nobody knows."""
    by_tenant: dict[str, list[TotalLook]] = {}
    for look in looks:
        by_tenant.setdefault(look.tenant, []).append(look)
    for tenant in Tenant.objects.filter(pk__in=by_tenant).order_by("pk"):
        _take(tenant, node, sorted(by_tenant[tenant.pk], key=lambda one: (one.boot_id, one.ns)))


@transaction.atomic
def _take(tenant: Tenant, node: str, looks: list[TotalLook]) -> None:
    known = {
        (one.boot_id, one.inode): one for one in TenantCgroup.objects.of(tenant).select_for_update().filter(node=node)
    }
    hours: Hours = {}
    moved: dict[int, TenantCgroup] = {}
    for look in looks:
        cgroup = known.get((look.boot_id, look.inode))
        if cgroup is None:
            known[look.boot_id, look.inode] = _first(tenant, node, look, hours)
        elif look.ns > cgroup.boottime_ns:
            _next(cgroup, look, hours)
            moved[cgroup.pk] = cgroup
    for one in moved.values():  # not all that the tenant ever had
        one.save()
    for hour in hours.values():
        hour.save()


def _first(tenant: Tenant, node: str, look: TotalLook, hours: Hours) -> TenantCgroup:
    at = moment(look.at_us)
    born = _born(tenant, node, at)
    cgroup = TenantCgroup.objects.create(
        tenant=tenant, node=node, boot_id=look.boot_id, inode=look.inode, version=look.cgroup, read_at=at,
        boottime_ns=look.ns, value=look.after, skew=look.after - look.before,
    )  # fmt: skip
    if born is None or at - born > BORN_WITHIN:
        hour = _hour(cgroup, hour_of(at), hours)
        hour.watched, hour.read_at = False, at
    else:
        _charge(cgroup, look.after, born, at, cgroup.skew, hours)
    return cgroup


def _born(tenant: Tenant, node: str, at: dt.datetime) -> dt.datetime | None:
    """The first start in it: none of the cgroup before, and none after this look."""
    before = TenantCgroup.objects.of(tenant).filter(node=node).order_by("-read_at").first()
    started = MeterEpoch.objects.of(tenant).filter(node=node, started_at__lte=at)
    if before is not None:
        started = started.filter(started_at__gt=before.read_at)
    return started.order_by("started_at").values_list("started_at", flat=True).first()


def _next(cgroup: TenantCgroup, look: TotalLook, hours: Hours) -> None:
    """A clock that was set back places nothing before what is placed already, but where it was set by more than a day, as of records."""
    at, boot = moment(look.at_us), (look.ns - cgroup.boottime_ns) // 1000 * MICROSECOND
    at = at if cgroup.read_at - at > LONGEST_STEP else max(at, cgroup.read_at)
    start = cgroup.read_at if abs(at - cgroup.read_at - boot) <= LONGEST_STEP else at - boot
    skew = look.after - look.before
    _charge(cgroup, max(0, look.after - cgroup.value), start, at, cgroup.skew + skew, hours)
    cgroup.read_at, cgroup.boottime_ns, cgroup.value, cgroup.skew = at, look.ns, max(look.after, cgroup.value), skew


def _charge(
    cgroup: TenantCgroup, used: int, start: dt.datetime, end: dt.datetime, skew: int,
    hours: Hours,
) -> None:  # fmt: skip
    parts = split(used, start, end)
    for part in parts:
        hour = _hour(cgroup, part.window, hours)
        hour.quantity += part.quantity
        hour.read_at = max(hour.read_at, part.ends_at)
        if len(parts) > 1:
            hour.uncertain += used + skew


def _hour(cgroup: TenantCgroup, window: dt.datetime, hours: Hours) -> TenantHour:
    key = (cgroup.pk, window)
    if key not in hours:
        found = TenantHour.objects.filter(cgroup=cgroup, window=window).first()
        hours[key] = found or TenantHour(cgroup=cgroup, tenant_id=cgroup.tenant_id, window=window, read_at=window)
    return hours[key]
