"""Reads: containers, images, volumes and networks as their tenant's people see them."""

from __future__ import annotations

from console.workloads.selectors.belongings import (
    network,
    networks,
    places,
    usable_networks,
    usable_volumes,
    volume,
    volumes,
    way_out,
)
from console.workloads.selectors.containers import (
    container,
    containers,
    counts,
    events,
    image,
    images,
    last_operation,
    needs_attention,
    page,
    share,
)

__all__ = [
    "container",
    "containers",
    "counts",
    "events",
    "image",
    "images",
    "last_operation",
    "needs_attention",
    "network",
    "networks",
    "page",
    "places",
    "share",
    "usable_networks",
    "usable_volumes",
    "volume",
    "volumes",
    "way_out",
]
