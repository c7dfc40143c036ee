"""Removing content in phases: under the lock it is renamed into a grave, where nobody can mistake a part for the whole;
the files go afterwards, and a crash in between leaves a grave for the next to empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import DeadlineExceeded
from runtime.failpoint import failpoint
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

    def bury(self, keep: set[str], leased: set[str]) -> tuple[str, ...]:
        """The caller holds the content lock.  ``keep``: digests and diff_ids; ``leased``: those of them whose downloads stay, too."""
        gone = [digest for digest in self._blobs.digests() if digest not in keep]
        for digest in gone:
            self._blobs.forget_origins(digest)  # first: of a blob that is gone nobody would look for them
            failpoint("gc.origins")
            os.rename(self._blobs.path(digest), self._grave(digest.partition(":")[2]))
            failpoint("gc.blob")
        for part in self._blobs.ingest.glob("*.part"):
            if f"sha256:{part.name.partition('.')[0]}" not in leased:
                os.rename(part, self._grave(part.name))
        for folder in sorted(self._layers.iterdir()):
            if f"sha256:{folder.name}" not in keep:
                os.rename(folder, self._grave(folder.name))
                failpoint("gc.layer")
                gone.append(f"layer {folder.name}")
        return tuple(gone)

    def _grave(self, name: str) -> Path:
        return self._blobs.ingest / f"{name}.{os.urandom(4).hex()}{GRAVE}"

    def graves(self) -> tuple[Path, ...]:
        return tuple(sorted(self._blobs.ingest.glob(f"*{GRAVE}")))

    def empty_graves(self) -> int:
        """Returns the bytes that it freed.  One at a time; who finds another at it leaves it to that one."""
        freed = 0
        try:
            with self._home.lock("image-graves", timeout_s=0):
                for grave in self.graves():
                    freed += remove_tree(grave)
                    failpoint("gc.emptied")
        except DeadlineExceeded:
            return freed
        return freed

    def sweep(self) -> tuple[str, ...]:
        graves = [grave.name for grave in self.graves()]
        self.empty_graves()
        swept = [name for name in graves if not (self._blobs.ingest / name).exists()]
        for folder in self._blobs.folders():
            swept += sweep_temporaries(folder)
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
