"""Images of the fake engine: every registry takes what is pushed, but for names that contain ``denied``; archives hold names alone."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from runtime.api import ArchiveForm, Credentials, EventKind, HistoryRow, Image, Progress, Pruned, Step, no_progress
from runtime.engines.native.image_service import check_marks, check_saved
from runtime.errors import Conflict, ImageDenied
from runtime.image.push import target_of
from runtime.telemetry.journal import Journal

if TYPE_CHECKING:
    from runtime.engines.fake.engine import FakeEngine


class FakeImageService:
    def __init__(self, engine: FakeEngine, journal: Journal) -> None:
        self._engine = engine
        self._journal = journal

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
        del credentials, insecure, confined
        found = self._engine.image(image)
        target = target_of(image if reference is None else reference, found.id)
        self._engine.misbehaviour.act("push")
        for number in range(1, 4):
            progress(Step("upload", number * found.size // 3, found.size, "fake"))
        if "denied" in target.repository:
            raise ImageDenied(
                f"The registry {target.registry} does not let this user push to {target.repository}.",
                hint="Push to a name that the user may write, or correct the registry's credentials.",
                registry=target.registry,
            )
        self._journal.tell(EventKind.PUSHED, found.id, name=reference or image)
        return f"{target.registry}/{target.repository}@{found.id}"

    def save(
        self,
        images: Sequence[str],
        target: BinaryIO,
        *,
        form: ArchiveForm = "oci",
        progress: Progress = no_progress,
    ) -> None:
        check_saved(images, form)
        found = {image.id: image for image in map(self._engine.image, images)}
        self._engine.misbehaviour.act("save")
        names = [name for image in found.values() for name in image.references]
        content = json.dumps([{"RepoTags": [name]} for name in names]).encode()
        progress(Step("save", len(content), len(content)))
        entry = tarfile.TarInfo("manifest.json" if form == "docker" else "index.json")
        entry.size = len(content)
        with tarfile.open(fileobj=target, mode="w|") as archive:
            archive.addfile(entry, io.BytesIO(content))

    def history(self, image: str) -> tuple[HistoryRow, ...]:
        layers = self._engine.image(image).layers
        return tuple(HistoryRow("", layer.created_by, "", layer.size, layer.diff_id) for layer in reversed(layers))

    def prune(self, *, named: bool = False, older_than_s: float = 0.0) -> Pruned:
        """Its images all have names; one is as old as its file."""
        self._engine.misbehaviour.act("prune")
        old = [image for image in self._engine.images() if self._engine.image_age(image.id) >= older_than_s]
        return self._remove(old if named else [])

    def make_room(self, *, above: float, down_to: float) -> Pruned:
        """Its disk is never full."""
        check_marks(above, down_to)
        return Pruned((), 0)

    def _remove(self, images: Sequence[Image]) -> Pruned:
        gone: list[str] = []
        freed = 0
        for image in images:
            with contextlib.suppress(Conflict):
                self._engine.remove_image(image.id)
                gone += image.references
                freed += image.size
        return Pruned(tuple(gone), freed)


def names_in(archive: Path) -> tuple[str, ...]:
    """Of the images in what :meth:`FakeImageService.save` wrote; none in anything else."""
    try:
        with tarfile.open(archive) as opened:
            source = opened.extractfile(opened.next() or tarfile.TarInfo())
            rows = json.load(source) if source else []
    except (tarfile.TarError, KeyError, ValueError):
        return ()
    return tuple(row["RepoTags"][0] for row in rows)
