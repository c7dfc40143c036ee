"""Operations as people see them."""

from __future__ import annotations

from django.db.models import QuerySet

from console.accounts.models import Tenant, User
from console.core.errors import Missing
from console.operations.models import Operation


def operations(tenant: Tenant) -> QuerySet[Operation]:
    return Operation.objects.of(tenant).select_related("container", "volume", "network", "actor")


def operation(user: User, id: str) -> Operation:
    """Raises Missing, also for what is another tenant's.  Building the catalog is everybody's."""
    found = Operation.objects.select_related("container", "actor").filter(pk=id).first()
    mine = found is not None and (found.tenant_id is None or Operation.objects.visible_to(user).filter(pk=id).exists())
    if found is None or not mine:
        raise Missing
    return found


def open_operations(tenant: Tenant) -> QuerySet[Operation]:
    return operations(tenant).filter(state__in=Operation.OPEN)


def open_builds() -> dict[str, Operation]:
    """Recipe slug -> the operation that builds it now."""
    rows = Operation.objects.filter(kind=Operation.Kind.BUILD, state__in=Operation.OPEN)
    return {str(row.params.get("recipe")): row for row in rows}
