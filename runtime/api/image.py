"""An image in the local store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    """Of the compressed blob, ``sha256:...``."""
    diff_id: str
    """Of the uncompressed tar."""
    size: int
    """Compressed bytes."""
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the local store, ready to run."""

    id: str
    """Digest of the image manifest of this platform."""
    references: tuple[str, ...]
    """Full references (``registry/name:tag``) that resolve to it here."""
    architecture: str
    os: str
    size: int
    """Sum of the compressed layers, bytes."""
    layers: tuple[Layer, ...]
    created: str
    config: Mapping[str, object]
    """The ``config`` object of the OCI image configuration: Env, Entrypoint, Cmd, ExposedPorts, WorkingDir, User, ..."""
