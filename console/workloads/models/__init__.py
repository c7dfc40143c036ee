"""Containers, images, volumes and networks as tenants own them."""

from __future__ import annotations

from console.workloads.models.containers import Container, ContainerEvent, PublishedPort
from console.workloads.models.images import Image
from console.workloads.models.networks import Attachment, Network
from console.workloads.models.volumes import Mount, Volume

__all__ = ["Attachment", "Container", "ContainerEvent", "Image", "Mount", "Network", "PublishedPort", "Volume"]
