"""What is done with images beyond getting and removing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

from runtime.api.progress import Progress, no_progress
from runtime.api.spec import Credentials

ArchiveForm = Literal["oci", "docker"]


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One step of an image's making."""

    created: str
    """RFC 3339, as its maker wrote it; empty when that is not told, as are the next two."""
    created_by: str
    comment: str
    size: int
    """Compressed bytes of the step's layer; 0 for a step that changed no file."""
    diff_id: str
    """Of that layer; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Pruned:
    gone: tuple[str, ...]
    """Names that were dropped, and ids of images that had none."""
    freed_bytes: int
    """On the node's disk; what another process is still deleting is not counted."""


class ImageService(Protocol):
    """Thread-safe and idempotent as the engine's own verbs.  ``image`` is a reference or an id of an image that is here."""

    def push(
        self,
        image: str,
        reference: str | None = None,
        *,
        credentials: Credentials | None = None,
        insecure: bool = False,
        confined: bool = False,
        progress: Progress = no_progress,
    ) -> str:
        """Give the image to a registry as ``reference`` (default: the name it is called by); returns ``registry/name@digest``.

        What the registry has is not sent: content of another of its repositories is mounted where it allows that.  An upload that
        breaks off goes on where it was.  ``insecure`` and ``confined`` as with pull.
        Raises NotFound (image), InvalidSpec, ImageDenied, ImageUnavailable, ImageUnsuitable (the registry does not take it),
        ImageCorrupt (it is damaged here), DeadlineExceeded.
        """

    def save(
        self,
        images: Sequence[str],
        target: BinaryIO,
        *,
        form: ArchiveForm = "oci",
        progress: Progress = no_progress,
    ) -> None:
        """Write an archive of the images to ``target``, an OCI image layout or what ``docker load`` takes; :meth:`Engine.load` reads both.

        The same images make the same bytes, in constant memory.  Images that are called by name keep that name; by id, all of theirs.
        Names of slipway.local stay on this node.  Raises NotFound, InvalidSpec (none is named), ImageCorrupt, OSError of ``target``.
        """

    def history(self, image: str) -> tuple[HistoryRow, ...]:
        """Newest step first.  Raises NotFound."""

    def prune(self, *, named: bool = False, older_than_s: float = 0.0) -> Pruned:
        """Remove the images that have no name and no container, and what broken downloads left.

        ``named``: those that have a name, too.  ``older_than_s``: only what was last used (got, made, or had by a container) that long ago,
        and then what a broken pull left to its next try stays, too, for an hour.
        What somebody is at work with stays: what is being pulled, loaded, built, committed, pushed or saved.  Raises DeadlineExceeded.
        """

    def make_room(self, *, above: float, down_to: float) -> Pruned:
        """When more than ``above`` percent of the disk with the images is in use: remove images until it is no more than ``down_to``.

        Taken are, the least recently used first, images that can be had again: built ones, and those that their registry has served whole.
        Never one that a container has, that somebody is at work with, or that was used within the last ten minutes.
        Raises InvalidSpec (``down_to`` above ``above``, or no percentages).
        """
