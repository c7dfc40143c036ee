"""Removing content in phases: under the lock it is renamed into a grave, where nobody can mistake a part for the whole;
the files go afterwards, and a crash in between leaves a grave for the next to empty.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import DeadlineExceeded
from runtime.home import Home, sweep_temporaries
from runtime.image.blobs import Blobs
from runtime.kernel.tree import remove_tree

GRAVE = ".gone"
UNPACKING = ".fs"
BUILD = "build."
"""What a build works in: ``build.<pid>.<mark>``."""
BLOB_COPY = ".copy"
"""What an archive or a build copies in: ``<pid>.<mark>.copy``."""


class Collection:
    def __init__(self, home: Home, blobs: Blobs) -> None:
        self._home = home
        self._blobs = blobs
        self._layers = home.images / "layers"

    def bury(self, keep: set[str]) -> tuple[str, ...]:
        """The caller holds the content lock.  ``keep``: digests and diff_ids."""
        gone = [digest for digest in self._blobs.digests() if digest not in keep]
        for digest in gone:
            self._blobs.remove(digest)
        for part in self._blobs.ingest.glob("*.part"):
            part.unlink(missing_ok=True)
        for folder in sorted(self._layers.iterdir()):
            if f"sha256:{folder.name}" not in keep:
                os.rename(folder, self._blobs.ingest / f"{folder.name}.{secrets.token_hex(4)}{GRAVE}")
                gone.append(f"layer {folder.name}")
        return tuple(gone)

    def empty_graves(self) -> tuple[str, ...]:
        """One at a time; who finds another at it leaves it to that one."""
        emptied = []
        try:
            with self._home.lock("image-graves", timeout_s=0):
                for grave in sorted(self._blobs.ingest.glob(f"*{GRAVE}")):
                    remove_tree(grave)
                    emptied.append(grave.name)
        except DeadlineExceeded:
            return ()
        return tuple(emptied)

    def sweep(self) -> tuple[str, ...]:
        swept = [*self.empty_graves(), *sweep_temporaries(self._blobs.folder)]
        for left in self._left_by_the_dead():
            remove_tree(left)
            swept.append(left.name)
        for folder in sorted(self._blobs.ingest.glob(f"*{UNPACKING}")):
            try:
                with self._home.lock(f"layer-{folder.name[:32]}", timeout_s=0):
                    remove_tree(folder)
                    swept.append(folder.name)
                    self._home.forget_lock(f"layer-{folder.name[:32]}")
            except DeadlineExceeded:
                continue  # it is being unpacked
        return tuple(f"image:{name}" for name in swept)

    def _left_by_the_dead(self) -> Iterator[Path]:
        """Builds and copies of processes that are gone."""
        for entry in sorted(self._blobs.ingest.iterdir()):
            name = entry.name.removeprefix(BUILD)
            pid = name.partition(".")[0]
            ours = entry.name.startswith(BUILD) or entry.name.endswith(BLOB_COPY)
            if ours and pid.isdigit() and not Path("/proc", pid).exists():
                yield entry
