"""Volumes of a tenant: made and removed by operations; what the engine says of them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from console.accounts.models import Role, Tenant, User
from console.accounts.services import audit, require
from console.core.errors import Invalid
from console.operations import services as operations
from console.operations.models import Operation
from console.workloads.models import Volume
from console.workloads.services import belongings, quotas
from console.workloads.services.checking_options import check_with
from console.workloads.services.naming import check_name
from runtime import api


def create_volume(*, tenant: Tenant, actor: User, name: str, size_bytes: int | None, request_key: str) -> Operation:
    """The same ``request_key`` again is the same volume.  Raises Missing, NotAllowed, Invalid (``name``, ``size``), Full."""
    require(actor, tenant, Role.MEMBER)
    with transaction.atomic():
        quota = quotas.locked(tenant)
        earlier = operations.earlier(tenant, request_key, kind=Operation.Kind.CREATE_VOLUME)
        if earlier is not None:
            return earlier
        check_name(name)
        check_with("size", limits=api.Limits(disk_bytes=size_bytes))
        if Volume.objects.of(tenant).filter(name=name, removed_at__isnull=True).exists():
            raise Invalid("name", _("There is a volume of that name: choose another."))
        quotas.admit_volume(tenant, quota, size_bytes)
        return intend(tenant, actor, name, size_bytes, request_key=request_key).operations.get()


def intend(tenant: Tenant, actor: User, name: str, size_bytes: int | None, *, request_key: str = "") -> Volume:
    """The row and its operation, in the caller's transaction; the caller has checked everything."""
    volume = Volume.objects.create(
        tenant=tenant, node=settings.NODE, name=name, size_bytes=size_bytes, created_by=actor
    )
    audit("volume.create", actor=actor, tenant=tenant, target=volume.id, name=name, size_bytes=size_bytes)
    belongings.told(volume, volume.state)
    operations.submit(
        tenant=tenant, actor=actor, kind=Operation.Kind.CREATE_VOLUME, node=volume.node, volume=volume,
        request_key=request_key or uuid.uuid4().hex,
    )  # fmt: skip
    return volume


def remove_volume(*, volume: Volume, actor: User, request_key: str) -> Operation:
    """With all that is in it.  Raises Missing, NotAllowed, and Invalid while a container has it."""
    return belongings.remove(
        volume, actor=actor, request_key=request_key, by=Operation.Kind.REMOVE_VOLUME, refuse_used=_refuse_used
    )


def _refuse_used(volume: Volume) -> None:
    users = volume.mounts.filter(container__removed_at__isnull=True)
    if names := sorted(set(users.values_list("container__name", flat=True))):
        raise Invalid("", _("Remove these containers first, which have it: %(names)s.") % {"names": ", ".join(names)})


def volume_spec(volume: Volume) -> api.VolumeSpec:
    """What was authorised, for the engine, which validates it again."""
    return api.VolumeSpec(volume.tenant_id, volume.name, volume.size_bytes)


# ------------------------------------------------------------------------------------------------ truth


def volume_made(volume: Volume, found: api.Volume) -> None:
    belongings.made(volume, _seen(found, timezone.now()))


def _seen(found: api.Volume, at: dt.datetime) -> dict[str, Any]:
    return {"used_bytes": found.used_bytes, "looked_at": at}


def reconcile_volumes(found: Iterable[api.Volume], as_of: dt.datetime) -> list[str]:
    """See :func:`console.workloads.services.belongings.reconcile`."""
    return belongings.reconcile(Volume, {(one.tenant, one.name): _seen(one, as_of) for one in found}, as_of)
