"""Fixed addresses: a container has its own from its creation to its removal, or until it leaves the network, whether it runs or not.

Each is a claim ``HOME/runtime/fixed/<tenant>/<address>`` of its holder's, on a flat network ``<address>@<bridge>``, so it outlives a reboot.
What runs has a lease of it as well, as of any address; nobody of the tenant is given or leased one that another holds
(:mod:`runtime.network.addresses`).  Callers hold the container's lock.  What a crash leaves beside the specifications the next reconciliation frees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

from runtime.api import DEFAULT_NETWORK, Attachment, ContainerSpec
from runtime.errors import Conflict, NotFound
from runtime.home import Home
from runtime.network.addresses import claim_of, fixed_claims, holders
from runtime.network.claims import Claims
from runtime.network.segments import Segments
from runtime.network.tenants import TenantSlots


def fixed(home: Home, tenant: str, attachments: Iterable[Attachment]) -> dict[str, str]:
    """Claim -> the specification's field that asks for it."""
    segments = Segments(home, TenantSlots(home))
    found = {}
    for index, one in enumerate(attachments):
        for name in ("address", "address6"):
            if (address := getattr(one, name)) is not None:
                found[_claim(segments, tenant, one.network, str(ip_address(address)))] = f"networks[{index}].{name}"
    return found


def _claim(segments: Segments, tenant: str, network: str, address: str) -> str:
    """Of a network that is gone: as of one that is not flat."""
    try:
        return address if network == DEFAULT_NETWORK else claim_of(segments.get(tenant, network), address)
    except NotFound:
        return address


def hold(home: Home, spec: ContainerSpec, name_of: Callable[[str], str]) -> None:
    """All that the specification fixes.  ``name_of``: a container, for a person.

    Raises Conflict: another holds one, or has been given it for as long as it runs; then it holds what it did before.
    """
    wanted = fixed(home, spec.tenant, spec.networks)
    if not wanted:
        return
    held = fixed_claims(home, spec.tenant)
    with contextlib.ExitStack() as undo:
        for claim, field in wanted.items():
            if held.owner(claim) != spec.id and held.take(claim, spec.id):
                undo.callback(held.free, claim, spec.id)
            # held first: whoever is given one leases it, and then looks whether somebody holds it
            for holder in holders(home, spec.tenant, claim):
                if holder != spec.id:
                    raise Conflict(
                        f"The address {claim.partition('@')[0]} is that of the container {name_of(holder)!r}.",
                        hint="Choose another, or none.",
                        field=field,
                        container=holder,
                    )
        undo.pop_all()


def hold_again(home: Home, spec: ContainerSpec) -> tuple[str, ...]:
    """What it should hold and does not, as after a power cut; returns those of them that another holds.

    Of a version without bridges in its claims, what it held on a flat network, too; the old claim goes with what crashes leave.
    """
    held = fixed_claims(home, spec.tenant)
    return tuple(claim for claim in fixed(home, spec.tenant, spec.networks) if not held.take(claim, spec.id))


def let_go(home: Home, spec: ContainerSpec, attachments: Iterable[Attachment]) -> None:
    held = fixed_claims(home, spec.tenant)
    for claim in fixed(home, spec.tenant, attachments):
        held.free(claim, spec.id)


def let_go_of_all(home: Home, container: str) -> None:
    """Of whatever tenant it was."""
    for claims in _all(home):
        claims.free_all(container)


def holdings(home: Home) -> Iterator[tuple[Claims, str, str]]:
    """(a tenant's claims, container's id, claim)."""
    for claims in _all(home):
        for owner, claim in claims.holdings():
            yield claims, owner, claim


def _all(home: Home) -> Iterator[Claims]:
    tenants = home.state / "fixed"
    for tenant in sorted(tenants.iterdir()) if tenants.is_dir() else ():
        yield fixed_claims(home, tenant.name)
