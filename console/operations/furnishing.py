"""What containers need around them: volumes and networks, made and removed by operations of their own and by launches that want them."""

from __future__ import annotations

from console.accounts.models import Tenant
from console.operations.models import Operation
from console.workloads import services as workloads
from console.workloads.models import Container, Network, Volume
from console.workloads.services import belongings
from runtime.api import Engine, Progress
from runtime.errors import NotFound


def furnish(container: Container, engine: Engine) -> None:
    """Volumes and networks that are not made yet; what is lost is not made anew, so that nobody takes an empty one for it."""
    for mount in container.mounts.select_related("volume"):
        if mount.volume.state == Volume.State.PENDING:
            _make_volume(mount.volume, engine)
    for place in container.attachments.select_related("network"):
        if place.network.state == Network.State.PENDING:
            _make_network(place.network, engine)


def furnish_network(tenant: Tenant, name: str, engine: Engine) -> None:
    """Likewise the one that a container comes onto."""
    network = Network.objects.of(tenant).filter(name=name, removed_at__isnull=True, state=Network.State.PENDING).first()
    if network is not None:
        _make_network(network, engine)


def create_volume(operation: Operation, engine: Engine, _progress: Progress) -> None:
    _make_volume(_volume(operation), engine)


def _make_volume(volume: Volume, engine: Engine) -> None:
    workloads.volume_made(volume, engine.volumes.create(workloads.volume_spec(volume)))


def remove_volume(operation: Operation, engine: Engine, _progress: Progress) -> None:
    volume = _volume(operation)
    engine.volumes.remove(volume.tenant_id, volume.name)
    belongings.gone(volume)


def create_network(operation: Operation, engine: Engine, _progress: Progress) -> None:
    _make_network(_network(operation), engine)


def _make_network(network: Network, engine: Engine) -> None:
    workloads.network_made(network, engine.networks.create(workloads.network_spec(network)))


def remove_network(operation: Operation, engine: Engine, _progress: Progress) -> None:
    network = _network(operation)
    engine.networks.remove(network.tenant_id, network.name)
    belongings.gone(network)


def _volume(operation: Operation) -> Volume:
    found = Volume.objects.filter(pk=operation.volume_id, removed_at__isnull=True).first()
    if found is None:
        raise NotFound("The volume is gone.")
    return found


def _network(operation: Operation) -> Network:
    found = Network.objects.filter(pk=operation.network_id, removed_at__isnull=True).first()
    if found is None:
        raise NotFound("The network is gone.")
    return found
