"""Volumes and networks as their tenant's people see them, with who uses them and what was done last."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Prefetch, QuerySet

from console.accounts.models import Tenant, User
from console.core.errors import Missing
from console.operations.models import Operation
from console.workloads.models import Attachment, Container, Mount, Network, Volume
from console.workloads.models.belongings import Belonging


def volumes(tenant: Tenant) -> QuerySet[Volume]:
    """Not removed ones, in three queries whatever their number: ``used_by`` are mounts, ``last`` operations, the newest first."""
    rows = Volume.objects.of(tenant).filter(removed_at__isnull=True).select_related("created_by")
    return rows.prefetch_related(_used_by(Mount, "mounts"), _last())


def networks(tenant: Tenant) -> QuerySet[Network]:
    """Likewise; ``used_by`` are attachments."""
    rows = Network.objects.of(tenant).filter(removed_at__isnull=True).select_related("created_by")
    return rows.prefetch_related(_used_by(Attachment, "attachments"), _last())


def _used_by(model: type[Mount | Attachment], name: str) -> Prefetch[str]:
    rows = model._default_manager.filter(container__removed_at__isnull=True)  # noqa: SLF001 -- Django documents it
    return Prefetch(name, rows.select_related("container").order_by("container__name", "pk"), to_attr="used_by")


def _last() -> Prefetch[str]:
    return Prefetch("operations", Operation.objects.order_by("-created_at"), to_attr="last")


def volume(user: User, id: str) -> Volume:
    """Raises Missing, for an outsider just as for an id that never was."""
    found = Volume.objects.visible_to(user).select_related("tenant").filter(pk=id).first()
    if found is None:
        raise Missing
    return found


def network(user: User, id: str) -> Network:
    """Raises Missing likewise."""
    found = Network.objects.visible_to(user).select_related("tenant").filter(pk=id).first()
    if found is None:
        raise Missing
    return found


def usable_volumes(tenant: Tenant) -> QuerySet[Volume]:
    """By a launch."""
    return Volume.objects.of(tenant).filter(removed_at__isnull=True, state__in=Belonging.USABLE)


def usable_networks(tenant: Tenant) -> QuerySet[Network]:
    return Network.objects.of(tenant).filter(removed_at__isnull=True, state__in=Belonging.USABLE)


def places(container: Container) -> list[Attachment]:
    """Its networks, in the order of its interfaces."""
    return list(container.attachments.select_related("network").order_by("pk"))


def way_out(places: Iterable[Attachment]) -> Attachment | None:
    """Where its default route and its published ports lead: the first that is not internal, as in the engine.  None: nowhere."""
    return next((one for one in places if not one.network.internal), None)
