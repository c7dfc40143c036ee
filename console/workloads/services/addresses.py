"""Fixed addresses of containers on networks: what can be one, and whose it is.

A container has its fixed address from the request to its removal, or until it leaves the network, running or not; so it is with the engine,
from the creation on, which gives it to nobody else.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from django.db.models import Q
from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.core.errors import Invalid, person
from console.operations.models import Operation
from console.workloads.models import Attachment as Place
from console.workloads.models import Network
from console.workloads.services.checking_options import check_with
from console.workloads.services.requests import NetworkRequest
from runtime import api
from runtime.api import DEFAULT_NETWORK
from runtime.errors import InvalidSpec
from runtime.validation_networks import check_fixed

FIELDS = ("address", "address6")


def attachment(asked: NetworkRequest) -> api.Attachment:
    """For the engine."""
    return plain(api.Attachment(asked.network, asked.address or None, asked.address6 or None, asked.aliases))


def plain(place: api.Attachment) -> api.Attachment:
    """With its addresses in the one way of writing them by which rows and requests are compared; what is none stays as it is."""
    return replace(place, address=_plain(place.address), address6=_plain(place.address6))


def _plain(address: str | None) -> str | None:
    try:
        return str(ip_address(address)) if address else None
    except ValueError:
        return address


def check_addresses(tenant: Tenant, row: Network | None, asked: NetworkRequest, field: str = "") -> None:
    """``row``: of the network, which can be used; None: a ``default`` that the tenant has not yet.

    Raises Invalid, for ``field``, or without one for the address that is wrong (``address``, ``address6``); its ``part``
    is that address on that network: ``address:back``.
    """
    wanted = attachment(asked)
    for name in FIELDS:
        address = getattr(wanted, name)
        if address is None:
            continue
        try:
            _check(tenant, row, api.Attachment(asked.network, **{name: address}), name)
        except Invalid as refused:
            raise Invalid(field or name, refused.message, part=f"{name}:{asked.network}") from None


def _check(tenant: Tenant, row: Network | None, wanted: api.Attachment, name: str) -> None:
    """Of the address ``name`` alone, which is all that is wanted.  Raises Invalid for it."""
    check_with(name, networks=(wanted,))
    if row is None or not row.subnet:
        raise Invalid(name, _unknown(wanted.network))
    try:
        check_fixed(row, wanted, 0)
    except InvalidSpec as fault:
        said = person(fault)
        raise Invalid(name, f"{said.message} {said.hint}") from None
    address = getattr(wanted, name)
    if holder := _holder(tenant, row, name, address):
        raise Invalid(
            name,
            _("The address %(address)s on the network %(network)s is that of the container %(name)s: choose another.")
            % {"address": address, "network": row.name, "name": holder},
        )


def _unknown(network: str) -> str:
    if network == DEFAULT_NETWORK:
        return _("Where the network default lies is known once a container has run on it: leave the address empty.")
    return _(
        "Where the network %(name)s lies is known once it is made: wait until it is ready, or leave the address empty."
    ) % {"name": network}


def _holder(tenant: Tenant, network: Network, name: str, address: str) -> str:
    """The container that has it now, has asked for it, or is on its way to it; empty: none."""
    there = Place.objects.filter(network=network, container__removed_at__isnull=True)
    found = there.filter(Q(**{name: address}) | Q(**{f"requested_{name}": address}))
    coming = Operation.objects.of(tenant).filter(
        kind=Operation.Kind.CONNECT, state__in=Operation.OPEN,
        **{"params__network": network.name, f"params__{name}": address},
    )  # fmt: skip
    names = (rows.values_list("container__name", flat=True).first() for rows in (found, coming))
    return next(filter(None, names), "")
