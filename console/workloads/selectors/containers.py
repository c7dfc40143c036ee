"""Containers as their tenant's people see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Prefetch, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from console.accounts.models import Tenant, User
from console.accounts.selectors import quota
from console.core.errors import Missing
from console.core.sentences import told
from console.metering.selectors import budgets
from console.operations.models import Operation
from console.workloads.models import Container, ContainerEvent, Image, Volume
from console.workloads.services.quotas import held

OPEN = [Operation.State.QUEUED, Operation.State.RUNNING]


def containers(tenant: Tenant, *, search: str = "", state: str = "") -> QuerySet[Container]:
    """Not removed ones, with their ports and open operation, in three queries whatever their number."""
    found = Container.objects.of(tenant).filter(removed_at__isnull=True)
    if search:
        found = found.filter(Q(name__icontains=search) | Q(image_reference__icontains=search) | Q(id=search))
    if state:
        found = found.filter(state=state)
    return found.prefetch_related("ports", _open_operations()).order_by("-created_at", "-id")


@dataclass(frozen=True, slots=True)
class Page:
    """``after``: the id to ask with for the next page, or empty."""

    containers: list[Container]
    after: str


def page(found: QuerySet[Container], *, size: int, after: str = "") -> Page:
    """Newest first, from behind the container ``after``: a launch or a removal meanwhile shifts nothing."""
    last = Container.objects.filter(pk=after).values_list("created_at", flat=True).first() if after else None
    if last is not None:
        found = found.filter(Q(created_at__lt=last) | Q(created_at=last, id__lt=after))
    rows = list(found[: size + 1])
    return Page(rows[:size], rows[size - 1].id if len(rows) > size else "")


def _open_operations() -> Prefetch[str]:
    return Prefetch("operations", Operation.objects.filter(state__in=OPEN), to_attr="open_operations")


def container(user: User, id: str) -> Container:
    """Raises Missing, for an outsider just as for an id that never was."""
    found = (
        Container.objects.visible_to(user)
        .select_related("tenant", "created_by")
        .prefetch_related("ports", _open_operations())
        .filter(pk=id)
        .first()
    )
    if found is None:
        raise Missing
    return found


def events(container: Container) -> QuerySet[ContainerEvent]:
    return ContainerEvent.objects.filter(container=container).select_related("actor")


def last_operation(id: str) -> Operation | None:
    """Of a container.  To be read before the container: what has ended by then is in its row, and what has not the page asks for again."""
    return Operation.objects.filter(container=id).order_by("-created_at").first()


def images(tenant: Tenant) -> QuerySet[Image]:
    """The tenant's own, and the built-in ones."""
    return Image.objects.filter(Q(tenant=tenant) | Q(tenant__isnull=True))


def image(container: Container) -> Image | None:
    rows = images(container.tenant).filter(digest=container.image_digest, node=container.node)
    return rows.first() if container.image_digest else None


def counts(tenant: Tenant) -> dict[str, int]:
    """State -> number, of what is not removed."""
    rows = Container.objects.of(tenant).filter(removed_at__isnull=True).values("state").annotate(number=Count("pk"))
    return {row["state"]: row["number"] for row in rows}


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a quota is taken."""

    what: str
    used: int
    most: int
    unit: str

    @property
    def percent(self) -> int:
        return min(100, self.used * 100 // self.most) if self.most else 100


def share(tenant: Tenant) -> tuple[Share, ...]:
    limits, has = quota(tenant), held(tenant)
    found = [
        Share(_("Containers"), has.containers, limits.containers, "count"),
        Share(_("Memory"), has.memory_bytes, limits.memory_bytes, "bytes"),
        Share(_("vCPU"), has.cpu_millis, limits.cpu_millis, "millis"),
        Share(_("Published ports"), has.published_ports, limits.published_ports, "count"),
        Share(_("Volumes"), has.volumes, limits.volumes, "count"),
        Share(_("Networks"), has.networks, limits.networks, "count"),
    ]
    if limits.disk_bytes is not None:
        found.append(Share(_("Disks of containers"), has.disk_bytes, limits.disk_bytes, "bytes"))
    if limits.volume_bytes is not None:
        found.append(Share(_("Room in volumes"), has.volume_bytes, limits.volume_bytes, "bytes"))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Attention:
    """Something a person should look at, and where."""

    container: Container | None
    sentence: str
    level: str


def needs_attention(tenant: Tenant) -> list[Attention]:
    found = []
    day = timezone.now() - timedelta(days=1)
    mine = Container.objects.of(tenant).filter(removed_at__isnull=True)
    for row in mine.filter(state=Container.State.FAILED)[:10]:
        found.append(Attention(row, told(row.reason) or _("The last operation failed."), "danger"))
    for row in mine.filter(state=Container.State.EXITED, finished_at__gte=day).exclude(wanted="stopped")[:10]:
        if row.oom_killed:
            found.append(Attention(row, _("It ran out of memory: raise its limit and start it again."), "danger"))
        elif row.exit_code != 0:
            found.append(
                Attention(row, _("It ended by itself with exit code %(code)s.") % {"code": row.exit_code}, "warning")
            )
    for row in mine.filter(state=Container.State.RUNNING, health=Container.Health.UNHEALTHY)[:10]:
        found.append(Attention(row, _("Its health check fails."), "warning"))
    for lost in Volume.objects.of(tenant).filter(state=Volume.State.LOST)[:10]:
        found.append(Attention(None, _("The node has lost the volume %(name)s.") % {"name": lost.name}, "danger"))
    for part in share(tenant):
        if part.percent >= 90:
            found.append(
                Attention(
                    None,
                    _("%(what)s: %(percent)d%% of the quota is used.") % {"what": part.what, "percent": part.percent},
                    "warning",
                )
            )
    found += [Attention(None, sentence, "warning") for sentence in budgets.warnings(tenant, timezone.now())]
    return found
