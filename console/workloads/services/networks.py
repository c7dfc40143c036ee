"""Networks of a tenant: made and removed by operations; what the engine says of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from console.accounts.models import Role, Tenant, User
from console.accounts.services import audit, require
from console.core.errors import Invalid
from console.operations import services as operations
from console.operations.models import Operation
from console.workloads.models import Network
from console.workloads.services import belongings, quotas
from console.workloads.services.naming import check_name
from runtime import api
from runtime.api import DEFAULT_NETWORK


def default(tenant: Tenant, node: str) -> Network:
    """Every tenant's own; the engine makes it with the first container."""
    mine = {"tenant": tenant, "name": DEFAULT_NETWORK, "removed_at": None}
    return Network.objects.get_or_create(**mine, defaults={"node": node, "state": Network.State.READY})[0]


def named(tenant: Tenant, node: str, names: Collection[str]) -> dict[str, Network]:
    """Name -> row, of those that a row knows; ``default`` always is one."""
    found = {row.name: row for row in Network.objects.of(tenant).filter(name__in=names, removed_at__isnull=True)}
    return found if DEFAULT_NETWORK not in names else {DEFAULT_NETWORK: default(tenant, node), **found}


def create_network(
    *, tenant: Tenant, actor: User, name: str, internal: bool = False, ipv6: bool = False, request_key: str
) -> Operation:
    """The same ``request_key`` again is the same network.  Raises Missing, NotAllowed, Invalid (``name``), Full."""
    require(actor, tenant, Role.MEMBER)
    with transaction.atomic():
        quota = quotas.locked(tenant)
        earlier = operations.earlier(tenant, request_key, kind=Operation.Kind.CREATE_NETWORK)
        if earlier is not None:
            return earlier
        check_name(name)
        if name == DEFAULT_NETWORK or Network.objects.of(tenant).filter(name=name, removed_at__isnull=True).exists():
            raise Invalid("name", _("There is a network of that name: choose another."))
        quotas.admit_network(tenant, quota)
        network = Network.objects.create(
            tenant=tenant, node=settings.NODE, name=name, internal=internal, ipv6=ipv6, created_by=actor
        )
        audit("network.create", actor=actor, tenant=tenant, target=network.id, name=name, internal=internal, ipv6=ipv6)
        belongings.told(network, network.state)
        return operations.submit(
            tenant=tenant, actor=actor, kind=Operation.Kind.CREATE_NETWORK, node=network.node, network=network,
            request_key=request_key,
        )  # fmt: skip


def remove_network(*, network: Network, actor: User, request_key: str) -> Operation:
    """Raises Missing, NotAllowed, and Invalid for ``default`` and while a container is on it."""
    return belongings.remove(
        network, actor=actor, request_key=request_key, by=Operation.Kind.REMOVE_NETWORK, refuse_used=_refuse_used
    )


def _refuse_used(network: Network) -> None:
    if network.is_default:
        raise Invalid("", _("The network default is the tenant's own and stays."))
    users = network.attachments.filter(container__removed_at__isnull=True)
    coming = Operation.objects.of(network.tenant).filter(
        kind=Operation.Kind.CONNECT, state__in=Operation.OPEN, params__network=network.name
    )
    found = {*users.values_list("container__name", flat=True), *coming.values_list("container__name", flat=True)}
    if names := sorted(filter(None, found)):
        raise Invalid(
            "",
            _("Disconnect or remove these containers first, which are on it: %(names)s.") % {"names": ", ".join(names)},
        )


def network_spec(network: Network) -> api.NetworkSpec:
    """What was authorised, for the engine, which validates it again."""
    return api.NetworkSpec(network.tenant_id, network.name, ipv6=network.ipv6, internal=network.internal)


# ------------------------------------------------------------------------------------------------ truth


def network_made(network: Network, found: api.Network) -> None:
    belongings.made(network, _seen(found))


def _seen(found: api.Network) -> dict[str, Any]:
    return {"subnet": found.subnet, "gateway": found.gateway, "subnet6": found.subnet6, "gateway6": found.gateway6}


def reconcile_networks(found: Iterable[api.Network], as_of: dt.datetime) -> list[str]:
    """See :func:`console.workloads.services.belongings.reconcile`; a tenant's ``default`` is no stranger."""
    strangers = belongings.reconcile(Network, {(one.tenant, one.name): _seen(one) for one in found}, as_of)
    return [one for one in strangers if not one.endswith(f"/{DEFAULT_NETWORK}")]
