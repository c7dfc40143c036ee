"""What was authorised, for the engine, which validates it again."""

from __future__ import annotations

from console.workloads.models import Attachment as Place
from console.workloads.models import Container
from runtime.api import (
    DEFAULT_NETWORK,
    RESTART_MODES,
    Attachment,
    ContainerSpec,
    HealthCheck,
    Limits,
    Port,
    RestartMode,
    RestartPolicy,
    VolumeMount,
)


def spec(container: Container) -> ContainerSpec:
    return ContainerSpec(
        id=container.id,
        tenant=container.tenant_id,
        name=container.name,
        image=container.image_digest,
        entrypoint=tuple(container.entrypoint) or None,
        command=tuple(container.command) or None,
        env=dict(container.environment),
        working_dir=container.working_dir or None,
        user=container.user or None,
        hostname=container.hostname or None,
        labels=dict(container.labels),
        limits=Limits(
            memory_bytes=container.memory_bytes,
            cpu_millis=container.cpu_millis,
            pids=container.pids,
            disk_bytes=container.disk_bytes,
        ),
        ports=_ports(container),
        terminal=container.terminal,
        read_only=container.read_only,
        init=container.init,
        health=health_check(container),
        restart=RestartPolicy(_mode(container.restart_policy), container.restart_retries),
        volumes=tuple(
            VolumeMount(one.volume.name, one.path, one.read_only) for one in container.mounts.select_related("volume")
        ),
        networks=_networks(container),
    )


def _ports(container: Container) -> tuple[Port, ...]:
    return tuple(
        Port(port.container_port, "udp" if port.protocol == "udp" else "tcp", port.requested_port, port.host_address)
        for port in container.ports.order_by("pk")
    )


def health_check(container: Container) -> HealthCheck | None:
    stored = container.health_check
    return None if stored is None else HealthCheck(**{**stored, "command": tuple(stored["command"])})


def attachments_of(container: Container) -> tuple[Attachment, ...]:
    """In the order of its interfaces.  None: it is only on networks that no row knows."""
    return tuple(map(attachment_of, container.attachments.select_related("network")))


def attachment_of(place: Place) -> Attachment:
    return Attachment(place.network.name, place.requested_address, place.requested_address6, tuple(place.aliases))


def _networks(container: Container) -> tuple[Attachment, ...]:
    """The tenant's ``default`` alone is what a spec has that names none."""
    places = attachments_of(container)
    return () if places == (Attachment(DEFAULT_NETWORK),) else places


def _mode(policy: str) -> RestartMode:
    return next(mode for mode in RESTART_MODES if mode == policy)
