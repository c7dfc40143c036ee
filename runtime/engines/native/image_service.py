"""The verbs of :class:`runtime.api.ImageService` on this node's store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from runtime.api import ArchiveForm, Credentials, EventKind, HistoryRow, Progress, Pruned, no_progress
from runtime.engines.native.refusals import told
from runtime.errors import InvalidSpec
from runtime.image import pruning
from runtime.image.history import history
from runtime.image.save import save
from runtime.image.store import ImageStore
from runtime.telemetry.journal import Journal


class NativeImageService:
    def __init__(self, store: ImageStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    @told()
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
        from runtime.image.push import push  # loads an HTTP library, which a verb of the command line need not wait for

        pushed = push(
            self._store,
            image,
            reference,
            credentials=credentials,
            insecure=insecure,
            confined=confined,
            progress=progress,
        )
        self._journal.tell(EventKind.PUSHED, pushed.partition("@")[2], name=reference or image)
        return pushed

    @told()
    def save(
        self,
        images: Sequence[str],
        target: BinaryIO,
        *,
        form: ArchiveForm = "oci",
        progress: Progress = no_progress,
    ) -> None:
        check_saved(images, form)
        save(self._store, images, target, form, progress)

    def history(self, image: str) -> tuple[HistoryRow, ...]:
        return history(self._store, image)

    @told()
    def prune(self, *, named: bool = False, older_than_s: float = 0.0) -> Pruned:
        return self._noted(pruning.prune(self._store, named=named, older_than_s=older_than_s), "prune")

    @told()
    def make_room(self, *, above: float, down_to: float) -> Pruned:
        check_marks(above, down_to)
        return self._noted(pruning.make_room(self._store, above=above, down_to=down_to), "room")

    def _noted(self, pruned: Pruned, by: str) -> Pruned:
        for name in pruned.gone:
            self._journal.tell(EventKind.IMAGE_REMOVED, name, name=name, data={"by": by})
        return pruned


def check_saved(images: Sequence[str], form: str) -> None:
    """Raises InvalidSpec."""
    if not images:
        raise InvalidSpec("No image is named.", hint="Name one that is here.", field="images")
    if form not in {"oci", "docker"}:
        raise InvalidSpec("There is no such form of archive.", hint="Choose oci or docker.", field="form")


def check_marks(above: float, down_to: float) -> None:
    """Raises InvalidSpec."""
    if not 0 <= down_to <= above <= 100:
        raise InvalidSpec(
            "Room is made above one percentage of the disk, down to a lower one.",
            hint="Choose two from 0 to 100, such as 85 and 75.",
            field="down_to",
        )
