"""Writes: epochs and their readings, allocations, prices, periods and credits.  Every call may come twice."""

from __future__ import annotations

from console.metering.services.allocations import charge as charge_allocations
from console.metering.services.allocations import hold, release
from console.metering.services.epochs import begin, close_lost, end_of, ingest_final, read, take
from console.metering.services.holdings import (
    hold_disk,
    hold_ports,
    hold_volume,
    release_all,
    release_ports,
    release_volume,
    renamed,
)

__all__ = [
    "begin",
    "charge_allocations",
    "close_lost",
    "end_of",
    "hold",
    "hold_disk",
    "hold_ports",
    "hold_volume",
    "ingest_final",
    "read",
    "release",
    "release_all",
    "release_ports",
    "release_volume",
    "renamed",
    "take",
]
