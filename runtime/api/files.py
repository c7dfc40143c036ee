"""Files of containers: in and out as tar streams, what changed since the image, the whole root, a new image of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol

from runtime.api.image import Image


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between a container's root and its image."""

    kind: Literal["added", "changed", "deleted"]
    path: str
    """Absolute, in the container.  Of a deleted folder only the folder is told; of an added one all in it."""


@dataclass(frozen=True, slots=True)
class CommitSpec:
    """A new image: the container's own with its changes as one more layer.  ``None`` keeps the image's own setting."""

    reference: str
    """Its name, ``[registry/]name[:tag]``, which may not be one of the images that are built on this node."""
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the image's; an equal name replaces."""
    working_dir: str | None = None
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Added likewise."""
    comment: str = ""
    """In the image's history."""


class Files(Protocol):
    """Each works for containers that run and for those that do not, in memory that does not grow with what passes.

    Archives are plain tar with owners as the container sees them.  A path is resolved in the container's root by the kernel: no
    ``..``, link or race leads out of it.  /proc, /sys and /dev are nobody's files.  The container may change what is copied
    meanwhile: each file is told as it is when its turn comes.
    """

    def copy_out(self, id: str, path: str, target: BinaryIO) -> None:
        """Write what ``path`` is, with all below it, to ``target`` under the path's last name; volumes are part of it.

        A symbolic link at the end is told as a link.  Raises NotFound (container, path), InvalidSpec (path), LimitExceeded, OSError
        of ``target``.
        """

    def copy_in(self, id: str, path: str, source: BinaryIO) -> None:
        """Unpack ``source`` into the folder ``path``.  What was unpacked before an error stays.

        Raises NotFound (container, path), InvalidSpec (``archive``: damaged, leads upwards, device nodes), Conflict (read-only there),
        OutOfSpace.
        """

    def diff(self, id: str) -> Iterator[Change]:
        """By path.  Volumes are no part of it.  Raises NotFound."""

    def export(self, id: str, target: BinaryIO) -> None:
        """Write the whole root, without volumes, to ``target``.  Raises as copy_out does."""

    def commit(self, id: str, spec: CommitSpec) -> Image:
        """The same changes give the same image.  Raises NotFound, InvalidSpec, LimitExceeded, ImageUnsuitable, OutOfSpace."""
