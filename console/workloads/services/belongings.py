"""Volumes and networks: what their lives have in common.  Removal is intent and an operation in one transaction; the rest is truth."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from console.accounts.models import Role, User
from console.accounts.services import audit, require
from console.core.errors import Invalid
from console.core.live import announce
from console.metering import services as metering
from console.operations import services as operations
from console.operations.models import Operation
from console.workloads.models import Network, Volume
from console.workloads.models.belongings import Belonging
from console.workloads.services import quotas

State = Belonging.State
One = TypeVar("One", Volume, Network)


def kind(one: Volume | Network | type[Volume | Network]) -> str:
    """``volume`` or ``network``: in events, audit lines and fields of operations."""
    return "volume" if one is Volume or isinstance(one, Volume) else "network"


def told(one: Volume | Network, state: str) -> None:
    """To open pages."""
    announce(one.tenant_id, kind(one), one.id, state=state)


def became(one: Volume | Network, state: str) -> None:
    """Told, and billed: a volume's size is held from when the node has it to when it has it no more."""
    told(one, state)
    if isinstance(one, Volume):
        bill = metering.hold_volume if state == State.READY else metering.release_volume
        bill(one, timezone.now())


def remove(
    one: One, *, actor: User, request_key: str, by: Operation.Kind, refuse_used: Callable[[One], None]
) -> Operation:
    """Raises Missing, NotAllowed, Invalid."""
    require(actor, one.tenant, Role.MEMBER)
    model, what = type(one), kind(one)
    with transaction.atomic():
        quotas.locked(one.tenant)
        earlier = operations.earlier(one.tenant, request_key, kind=by, **{what: one})
        if earlier is not None:
            return earlier
        now = model.objects.get(pk=one.pk)  # what the caller holds may be old
        if now.removed_at is not None:
            raise Invalid("", _("It was removed already."))
        refuse_used(now)
        operation = operations.submit(
            tenant=now.tenant, actor=actor, kind=by, node=now.node, request_key=request_key,
            volume=now if isinstance(now, Volume) else None, network=now if isinstance(now, Network) else None,
        )  # fmt: skip
        model.objects.filter(pk=now.pk).update(state=State.REMOVING)
        audit(f"{what}.remove", actor=actor, tenant=now.tenant, target=now.id, name=now.name)
        told(now, State.REMOVING)
        return operation


# ------------------------------------------------------------------------------------------------ truth


@transaction.atomic
def made(one: Volume | Network, seen: Mapping[str, Any]) -> None:
    """``seen``: fields, as the engine tells them.  Idempotent: told by its own operation and by launches that want it."""
    unknown = Q(state__in=[State.PENDING, State.FAILED, State.LOST]) | Q(state=State.READY, made_at__isnull=True)
    fresh = type(one).objects.filter(unknown, pk=one.pk)
    if fresh.update(state=State.READY, made_at=timezone.now(), **seen):
        became(one, State.READY)


@transaction.atomic
def failed(one: Volume | Network) -> None:
    """Its operation says why.  What could not be removed is as it was."""
    rows = type(one).objects.filter(pk=one.pk, removed_at__isnull=True)
    if rows.filter(made_at__isnull=True, state__in=[State.PENDING, State.REMOVING]).update(state=State.FAILED):
        told(one, State.FAILED)
    elif rows.filter(state=State.REMOVING).update(state=State.READY):
        told(one, State.READY)


@transaction.atomic
def gone(one: Volume | Network) -> None:
    """Removed."""
    there = type(one).objects.filter(pk=one.pk, removed_at__isnull=True)
    if there.update(state=State.REMOVED, removed_at=timezone.now()):
        became(one, State.REMOVED)


Found = Mapping[tuple[str, str], Mapping[str, Any]]
"""(tenant's id, name) -> fields of the row, of all that the engine has."""


def reconcile(model: type[Volume | Network], found: Found, as_of: dt.datetime) -> list[str]:
    """Truth of the whole node, as the engine told it after ``as_of``; what an operation has touched since is left to that.

    Returns ``tenant/name`` of those that the engine has and no row knows: they are told, never touched.
    """
    what = kind(model)
    rows = model.objects.filter(node=settings.NODE, removed_at__isnull=True)
    lately = Q(state__in=Operation.OPEN) | Q(finished_at__gte=as_of)
    touched = Operation.objects.filter(lately, **{f"{what}__isnull": False}).values(what)
    known = set(rows.values_list("tenant_id", "name"))
    for row in rows.filter(created_at__lt=as_of).exclude(pk__in=touched):
        _compare(row, found.get((row.tenant_id, row.name)))
    return sorted(f"{tenant}/{name}" for tenant, name in set(found) - known)


@transaction.atomic
def _compare(row: Volume | Network, seen: Mapping[str, Any] | None) -> None:
    same = type(row).objects.filter(pk=row.pk, state=row.state)
    if seen is not None:
        changed = row.state != State.READY or any(getattr(row, name) != value for name, value in seen.items())
        if same.update(state=State.READY, made_at=row.made_at or timezone.now(), **seen) and changed:
            became(row, State.READY)
    elif row.state == State.REMOVING:
        gone(row)
    elif row.state == State.READY and not _stays(row) and same.update(state=State.LOST):
        became(row, State.LOST)


def _stays(row: Volume | Network) -> bool:
    """A tenant's ``default`` is there again with the next container."""
    return isinstance(row, Network) and row.is_default
