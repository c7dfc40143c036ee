"""The verbs of :class:`runtime.api.ImageService` on this node's store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from runtime.api import ArchiveForm, Credentials, EventKind, HistoryRow, Progress, no_progress
from runtime.engines.native.refusals import told
from runtime.errors import InvalidSpec
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
        with self._store.adding():
            save(self._store, images, target, form, progress)

    def history(self, image: str) -> tuple[HistoryRow, ...]:
        return history(self._store, image)


def check_saved(images: Sequence[str], form: str) -> None:
    """Raises InvalidSpec."""
    if not images:
        raise InvalidSpec("No image is named.", hint="Name one that is here.", field="images")
    if form not in {"oci", "docker"}:
        raise InvalidSpec("There is no such form of archive.", hint="Choose oci or docker.", field="form")
