"""Volumes: folders of a tenant that outlive containers and that several of its containers may have at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    tenant: str
    name: str
    """As a container's name."""
    size_bytes: int | None = None
    """At most this much fits, file names and the like included; None: as much as the node's disk has."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Volume:
    tenant: str
    name: str
    size_bytes: int | None
    used_bytes: int | None
    """On the node's disk.  None: it has too many files to count in a moment."""
    created_at: float
    """Seconds since the epoch, UTC."""
    labels: Mapping[str, str]
    containers: tuple[str, ...]
    """Ids of the containers, running or not, that have it in their spec: it is in use as long as there is one."""


class Volumes(Protocol):
    """Thread-safe and idempotent as the engine's own verbs.

    A volume belongs to its tenant: the container's root owns what is in it, and no name reaches another tenant's.  The first
    container that starts with a new volume at a path that its image has a folder at finds the image's content in it, owner and
    mode included; from then on the volume's content is its own.
    """

    def create(self, spec: VolumeSpec) -> Volume:
        """There already with an equal spec: returns it.

        Raises InvalidSpec, Conflict (the name is taken by another kind), LimitExceeded (larger than the node's disk), OutOfSpace.
        """

    def inspect(self, tenant: str, name: str) -> Volume:
        """Raises NotFound."""

    def list(self, *, tenant: str | None = None) -> tuple[Volume, ...]:
        """By tenant and name."""

    def remove(self, tenant: str, name: str) -> None:
        """With all that is in it.  Unknown: does nothing.  Raises Conflict (``data['container']`` names one that has it)."""

    def prune(self, *, tenant: str | None = None) -> tuple[Volume, ...]:
        """Remove those that no container has; returns what went."""
