"""Files of fake containers: a folder of the test's own disk for each, in which a few folders are the image's.

Nothing runs in a fake container, so all that is ever there is what was copied in.  Volumes are not part of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.api import Change, CommitSpec, Image
from runtime.engines.fake.misbehaviour import Misbehaviour
from runtime.engines.native.files import open_folder, pack_one
from runtime.engines.native.records import Records
from runtime.engines.native.view import View, opened
from runtime.home import Home
from runtime.image.copying import TreeWriter, read_only
from runtime.image.derive import name_of
from runtime.image.pack import Packer, Packing, everything
from runtime.image.reference import Reference
from runtime.storage.changes import changes
from runtime.validation_storage import check_commit, path_parts

OF_THE_IMAGE = ("etc", "root", "tmp")


class FakeFiles:
    def __init__(
        self, home: Home, records: Records, misbehaviour: Misbehaviour, add_image: Callable[[Reference], Image]
    ) -> None:
        self._home = home
        self._records = records
        self._misbehaviour = misbehaviour
        self._add_image = add_image

    def _tree(self, id: str) -> Path:
        """Raises NotFound."""
        self._records.spec(id)
        tree = self._home.container(id) / "files"
        for name in OF_THE_IMAGE:
            (tree / name).mkdir(parents=True, exist_ok=True)
        return tree

    def copy_out(self, id: str, path: str, target: BinaryIO) -> None:
        parts = path_parts(path)
        self._misbehaviour.act("copy_out")
        with opened(self._tree(id)) as root:
            packer = Packer(target, Packing(os.geteuid()))
            pack_one(packer, _view(root), parts)
            packer.close()

    def copy_in(self, id: str, path: str, source: BinaryIO) -> None:
        parts = path_parts(path)
        self._misbehaviour.act("copy_in")
        with opened(self._tree(id)) as root:
            os.close(open_folder(_view(root), "/".join(parts)))
            if self._records.spec(id).read_only:
                raise read_only()
            TreeWriter(root, "/".join(parts), 0, everything, disowned=True).take(source)

    def diff(self, id: str) -> Iterator[Change]:
        tree = self._tree(id)
        return self._diff(tree)

    @staticmethod
    def _diff(tree: Path) -> Iterator[Change]:
        with opened(tree) as root:
            yield from (change for change in changes(root, ()) if change.path.lstrip("/") not in OF_THE_IMAGE)

    def export(self, id: str, target: BinaryIO) -> None:
        self.copy_out(id, "/", target)

    def commit(self, id: str, spec: CommitSpec) -> Image:
        check_commit(spec)
        reference = name_of(spec)
        self._records.spec(id)
        self._misbehaviour.act("commit")
        return self._add_image(reference)


def _view(root: int) -> View:
    return View(root, os.geteuid(), everything, os.fstat(root).st_dev)
