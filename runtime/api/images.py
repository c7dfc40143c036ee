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
