"""What of a tenant's quota is taken, and who is let in.  Callers hold the quota's row (:func:`locked`), so two at once cannot both be last."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Sum
from django.utils.translation import gettext as _

from console.accounts.models import Quota, Tenant
from console.core.errors import Full
from console.operations.models import Operation
from console.workloads.models import Container, Network, PublishedPort, Volume
from console.workloads.services.requests import MIB, LaunchRequest, LimitsRequest
from runtime.api import DEFAULT_NETWORK


def locked(tenant: Tenant) -> Quota:
    """One change of a tenant's belongings at a time, until the caller's transaction ends."""
    return Quota.objects.select_for_update().get_or_create(tenant=tenant)[0]


@dataclass(frozen=True, slots=True)
class Held:
    """Everything that is not removed counts, running or not: it can be started at any time.  Of limits that are being changed the larger."""

    containers: int
    memory_bytes: int
    cpu_millis: int
    published_ports: int
    disk_bytes: int
    volumes: int
    volume_bytes: int
    networks: int


def held(tenant: Tenant) -> Held:
    mine = Container.objects.of(tenant).filter(removed_at__isnull=True)
    sums = mine.aggregate(number=Count("pk"), memory=Sum("memory_bytes"), cpu=Sum("cpu_millis"), disk=Sum("disk_bytes"))
    volumes = Volume.objects.of(tenant).filter(removed_at__isnull=True).aggregate(n=Count("pk"), size=Sum("size_bytes"))
    growing = _growing(tenant)
    return Held(
        containers=sums["number"],
        memory_bytes=(sums["memory"] or 0) + growing["memory_bytes"],
        cpu_millis=(sums["cpu"] or 0) + growing["cpu_millis"],
        published_ports=PublishedPort.objects.filter(container__in=mine, released_at__isnull=True).count(),
        disk_bytes=sums["disk"] or 0,
        volumes=volumes["n"],
        volume_bytes=volumes["size"] or 0,
        networks=Network.objects.of(tenant).filter(removed_at__isnull=True).exclude(name=DEFAULT_NETWORK).count(),
    )


def _growing(tenant: Tenant) -> dict[str, int]:
    """What open changes of limits will take beyond what their containers have now."""
    more = {"memory_bytes": 0, "cpu_millis": 0}
    changes = Operation.objects.of(tenant).filter(kind=Operation.Kind.UPDATE, state__in=Operation.OPEN)
    for change in changes.select_related("container"):
        for name in more:
            more[name] += max(0, int(change.params[name]) - getattr(change.container, name))
    return more


def admit_launch(tenant: Tenant, quota: Quota, request: LaunchRequest) -> None:
    """Raises Full, on the field of which there is too little."""
    has = held(tenant)
    if has.containers + 1 > quota.containers:
        raise Full(
            _("The tenant's quota of %(most)d containers is used up: remove one first.") % {"most": quota.containers},
            field="name",
        )
    _admit_limits(quota, has, request.limits, LimitsRequest(0, 0, 0))
    if has.published_ports + len(request.ports) > quota.published_ports:
        raise Full(
            _("The tenant's quota of %(most)d published ports is used up.") % {"most": quota.published_ports},
            field="ports",
        )
    _admit_bytes(quota.disk_bytes, has.disk_bytes, [request.disk_bytes], "disk")
    made = {one.volume: one.size_bytes for one in request.mounts if one.make}
    _admit_volumes(quota, has, list(made.values()), "volumes")


def admit_limits(tenant: Tenant, quota: Quota, container: Container, limits: LimitsRequest) -> None:
    """Raises Full."""
    _admit_limits(
        quota, held(tenant), limits, LimitsRequest(container.memory_bytes, container.cpu_millis, container.pids)
    )


def _admit_limits(quota: Quota, has: Held, limits: LimitsRequest, before: LimitsRequest) -> None:
    """``before`` is counted already; what grows nothing is always let in."""
    memory = has.memory_bytes - before.memory_bytes + limits.memory_bytes
    cpu = has.cpu_millis - before.cpu_millis + limits.cpu_millis
    if memory > quota.memory_bytes and limits.memory_bytes > before.memory_bytes:
        left = max(0, quota.memory_bytes - memory + limits.memory_bytes) // MIB
        raise Full(_("Only %(mib)d MiB of the tenant's memory quota are left.") % {"mib": left}, field="memory")
    if cpu > quota.cpu_millis and limits.cpu_millis > before.cpu_millis:
        left_cpu = max(0, quota.cpu_millis - cpu + limits.cpu_millis) / 1000
        raise Full(_("Only %(cpu).2f vCPU of the tenant's quota are left.") % {"cpu": left_cpu}, field="cpu")


def admit_volume(tenant: Tenant, quota: Quota, size_bytes: int | None) -> None:
    """Raises Full."""
    _admit_volumes(quota, held(tenant), [size_bytes], "size", number="name")


def _admit_volumes(quota: Quota, has: Held, sizes: list[int | None], field: str, number: str = "") -> None:
    if has.volumes + len(sizes) > quota.volumes:
        raise Full(
            _("The tenant's quota of %(most)d volumes is used up: remove one first.") % {"most": quota.volumes},
            field=number or field,
        )
    _admit_bytes(quota.volume_bytes, has.volume_bytes, sizes, field)


def _admit_bytes(most: int | None, taken: int, sizes: list[int | None], field: str) -> None:
    """Where bytes have a ceiling, nothing goes without a size."""
    if most is None or not sizes:
        return
    left = max(0, most - taken)
    if None in sizes:
        raise Full(
            _("The tenant's disk is limited, so give a size: %(mib)d MiB are left.") % {"mib": left // MIB}, field=field
        )
    if sum(size or 0 for size in sizes) > left:
        raise Full(_("Only %(mib)d MiB of the tenant's disk quota are left.") % {"mib": left // MIB}, field=field)


def admit_network(tenant: Tenant, quota: Quota) -> None:
    """Raises Full."""
    if held(tenant).networks + 1 > quota.networks:
        raise Full(
            _("The tenant's quota of %(most)d networks is used up: remove one first.") % {"most": quota.networks},
            field="name",
        )
