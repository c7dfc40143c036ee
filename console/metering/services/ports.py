"""A container's published ports as what they are billed as: so many held while it runs."""

from __future__ import annotations

import datetime as dt

from console.metering.models import Meter
from console.metering.services import allocations, resources
from console.workloads.models import Container


def hold_ports(container: Container, count: int, at: dt.datetime) -> None:
    """``count`` from ``at`` on; 0 ends it."""
    if count:
        allocations.hold(resources.of_container(container), Meter.PUBLISHED_PORT, count, at)
    else:
        release_ports(container, at)


def release_ports(container: Container, at: dt.datetime) -> None:
    allocations.release(container.pk, Meter.PUBLISHED_PORT, at)
