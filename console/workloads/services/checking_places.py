"""Volumes and networks of a launch: they are the tenant's, they are there or can be made, and ports have a way out."""

from __future__ import annotations

from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.core.errors import Invalid
from console.workloads.models import Container, Network, Volume
from console.workloads.selectors import way_out
from console.workloads.services.addresses import check_addresses
from console.workloads.services.checking_options import check_with
from console.workloads.services.requests import LaunchRequest, MountRequest, NetworkRequest
from console.workloads.services.spec import attachments_of
from runtime.api import DEFAULT_NETWORK, MOST_NETWORKS, Attachment, Limits, VolumeMount

LONGEST_PATH = 1000


def volumes_of(tenant: Tenant, request: LaunchRequest) -> dict[str, Volume]:
    """Name -> row, of those that the request names and that are not removed."""
    names = {one.volume for one in request.mounts}
    return {row.name: row for row in Volume.objects.of(tenant).filter(name__in=names, removed_at__isnull=True)}


def networks_of(tenant: Tenant, request: LaunchRequest) -> dict[str, Network]:
    names = {one.network for one in request.networks}
    return {row.name: row for row in Network.objects.of(tenant).filter(name__in=names, removed_at__isnull=True)}


def _check_mounts(tenant: Tenant, request: LaunchRequest) -> None:
    mounts = tuple(VolumeMount(one.volume, one.path, one.read_only) for one in request.mounts)
    check_with("volumes", volumes=mounts)
    rows = volumes_of(tenant, request)
    for one in request.mounts:
        if len(one.path) > LONGEST_PATH:
            raise Invalid("volumes", _("This is too long: %(most)d characters at most.") % {"most": LONGEST_PATH})
        _check_volume(rows.get(one.volume), one)
    _check_sizes(request.mounts)


def _check_volume(row: Volume | None, one: MountRequest) -> None:
    said = {"name": one.volume}
    if one.make:
        if row is not None:
            raise Invalid("volumes", _("There is a volume %(name)s already: choose it, or another name.") % said)
        check_with("volumes", limits=Limits(disk_bytes=one.size_bytes))
    elif row is None:
        raise Invalid("volumes", _("There is no volume %(name)s: choose another, or make it.") % said)
    elif row.state not in Volume.USABLE:
        raise Invalid(
            "volumes", _("The volume %(name)s cannot be used: it is being removed, or was never made.") % said
        )


def _check_sizes(mounts: tuple[MountRequest, ...]) -> None:
    """A volume that is made and mounted twice is one volume."""
    sizes: dict[str, int | None] = {}
    for one in mounts:
        if one.make and sizes.setdefault(one.volume, one.size_bytes) != one.size_bytes:
            raise Invalid("volumes", _("The new volume %(name)s is given two sizes.") % {"name": one.volume})


def _check_network(row: Network | None, name: str, field: str) -> None:
    """Raises Invalid.  ``default`` needs no row: the tenant's first launch makes it."""
    if row is None and name != DEFAULT_NETWORK:
        raise Invalid(field, _("There is no network %(name)s.") % {"name": name})
    if row is not None and row.state not in Network.USABLE:
        raise Invalid(
            field, _("The network %(name)s cannot be used: it is being removed, or was never made.") % {"name": name}
        )


def check_connection(container: Container, asked: NetworkRequest) -> None:
    """Of a container that is there.  Raises Invalid (``network``, ``aliases``, ``address``, ``address6``)."""
    check_with("aliases", networks=(Attachment(DEFAULT_NETWORK, aliases=asked.aliases),))
    row = Network.objects.of(container.tenant).filter(name=asked.network, removed_at__isnull=True).first()
    _check_network(row, asked.network, "network")
    present = [one.network for one in attachments_of(container)]
    if asked.network in present:
        raise Invalid("network", _("It is on the network %(name)s already.") % {"name": asked.network})
    if len(present) >= MOST_NETWORKS:
        raise Invalid("network", _("A container has at most %(most)d networks.") % {"most": MOST_NETWORKS})
    check_addresses(container.tenant, row, asked)


def check_disconnection(container: Container, network: str) -> None:
    """Raises Invalid (``network``)."""
    places = list(container.attachments.select_related("network"))
    present = [one.network.name for one in places]
    if network not in present:
        raise Invalid("network", _("It is not on the network %(name)s.") % {"name": network})
    if len(present) == 1:
        raise Invalid("network", _("This is its last network: connect it to another first."))
    out = way_out(places)
    if out is not None and network == out.network.name and container.ports.filter(released_at__isnull=True).exists():
        raise Invalid(
            "network",
            _("Its published ports lead through the network %(name)s: launch it anew without them.")
            % {"name": network},
        )


def _check_networks(tenant: Tenant, request: LaunchRequest) -> None:
    check_with("networks", networks=tuple(Attachment(one.network, aliases=one.aliases) for one in request.networks))
    rows = networks_of(tenant, request)
    for one in request.networks:
        _check_network(rows.get(one.network), one.network, "networks")
        check_addresses(tenant, rows.get(one.network), one, "networks")
    if (
        request.ports
        and request.networks
        and all(one.network in rows and rows[one.network].internal for one in request.networks)
    ):
        raise Invalid("networks", _("An internal network publishes no ports: add one that has a way out, or no port."))


TESTS = (_check_mounts, _check_networks)
