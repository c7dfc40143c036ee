"""Writes: launching and operating containers, volumes and networks; and truth coming back."""

from __future__ import annotations

from console.workloads.services.acting import VERBS, act, connect, disconnect, rename, update_limits
from console.workloads.services.checking import check
from console.workloads.services.launching import launch
from console.workloads.services.naming import suggest_name
from console.workloads.services.networks import (
    create_network,
    network_made,
    network_spec,
    reconcile_networks,
    remove_network,
)
from console.workloads.services.requests import (
    LaunchRequest,
    LimitsRequest,
    MountRequest,
    NetworkRequest,
    PortRequest,
)
from console.workloads.services.spec import spec
from console.workloads.services.truth import (
    changed,
    launch_failed,
    observe,
    reconcile,
    removed,
)
from console.workloads.services.volumes import (
    create_volume,
    reconcile_volumes,
    remove_volume,
    volume_made,
    volume_spec,
)

__all__ = [
    "VERBS",
    "LaunchRequest",
    "LimitsRequest",
    "MountRequest",
    "NetworkRequest",
    "PortRequest",
    "act",
    "changed",
    "check",
    "connect",
    "create_network",
    "create_volume",
    "disconnect",
    "launch",
    "launch_failed",
    "network_made",
    "network_spec",
    "observe",
    "reconcile",
    "reconcile_networks",
    "reconcile_volumes",
    "remove_network",
    "remove_volume",
    "removed",
    "rename",
    "spec",
    "suggest_name",
    "update_limits",
    "volume_made",
    "volume_spec",
]
