"""What containers and volumes hold, known from the events of their lives: published ports while a container runs; the disk of a container
and the size of a volume while they exist, used or not, for that much is kept for them.
"""

from __future__ import annotations

import datetime as dt

from console.metering.models import Meter, Resource
from console.metering.services import allocations, resources
from console.metering.sizes import KIB
from console.workloads.models import Container, Volume


def hold_ports(container: Container, count: int, at: dt.datetime) -> None:
    """``count`` from ``at`` on; 0 ends it."""
    if count:
        allocations.hold(resources.of_container(container), Meter.PUBLISHED_PORT, count, at)
    else:
        release_ports(container, at)


def release_ports(container: Container, at: dt.datetime) -> None:
    allocations.release(container.pk, Meter.PUBLISHED_PORT, at)


def hold_disk(container: Container, at: dt.datetime) -> None:
    """One without a limit has no disk of its own, and holds nothing."""
    if container.disk_bytes is not None:
        allocations.hold(resources.of_container(container), Meter.DISK_SIZE, container.disk_bytes // KIB, at)


def release_all(container: Container, at: dt.datetime) -> None:
    """It is no more: neither are its ports and its disk."""
    allocations.release_all(container.pk, at)


def hold_volume(volume: Volume, at: dt.datetime) -> None:
    """One without a size holds nothing."""
    if volume.size_bytes is not None:
        resource = resources.described(volume.tenant, Resource.Kind.VOLUME, volume.pk, volume.name, volume.node)
        allocations.hold(resource, Meter.VOLUME_SIZE, volume.size_bytes // KIB, at)


def release_volume(volume: Volume, at: dt.datetime) -> None:
    allocations.release(volume.pk, Meter.VOLUME_SIZE, at)


def renamed(container: Container, at: dt.datetime) -> None:
    """Its name or its labels are others from ``at`` on."""
    allocations.call(resources.of_container(container), at)
