"""The verbs of :class:`runtime.api.Files`: a view of the container's files, and what packs or unpacks them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from runtime.api import Change, CommitSpec, Image
from runtime.engines.native.etc import is_place
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Records
from runtime.engines.native.refusals import node_full, told
from runtime.engines.native.view import View, Views
from runtime.errors import ImageUnsuitable, InvalidSpec, NotFound, OutOfSpace
from runtime.image.copying import TreeWriter, read_only
from runtime.image.derive import derive, name_of
from runtime.image.layer_writer import MOST_BYTES
from runtime.image.pack import Packer, Packing
from runtime.image.room import Room
from runtime.image.store import ImageStore
from runtime.kernel.beneath import FOLDER, open_in_root
from runtime.kernel.identity import acting_as
from runtime.storage.changes import changes
from runtime.validation_storage import check_commit, path_parts


class NativeFiles:
    def __init__(self, views: Views, records: Records, images: ImageStore) -> None:
        self._views = views
        self._records = records
        self._images = images

    @told()
    def copy_out(self, id: str, path: str, target: BinaryIO) -> None:
        parts = path_parts(path)
        with self._views.whole(id) as view:
            packer = Packer(target, Packing(view.uid_base, view.within))
            pack_one(packer, view, parts)
            packer.close()

    @told()
    def copy_in(self, id: str, path: str, source: BinaryIO) -> None:
        parts = path_parts(path)
        sealed = self._records.spec(id).read_only
        with self._views.whole(id) as view:

            def within(found: os.stat_result) -> bool:
                if sealed and found.st_dev == view.root_device:
                    raise read_only()
                return view.within(found)

            os.close(open_folder(view, "/".join(parts)))
            with acting_as(view.uid_base):
                spared = _Spared(source, Room(self._images.blobs.ingest))
                TreeWriter(view.root, "/".join(parts), view.uid_base, within).take(cast("BinaryIO", spared))

    def diff(self, id: str) -> Iterator[Change]:
        lowers = self._images.layer_folders(self._images.image(self._records.spec(id).image))
        return self._diff(id, lowers)

    def _diff(self, id: str, lowers: tuple[Path, ...]) -> Iterator[Change]:
        with told(), self._views.upper(id) as view:
            yield from changes(view.root, lowers, is_place)

    @told()
    def export(self, id: str, target: BinaryIO) -> None:
        with self._views.root(id) as view:
            packer = Packer(target, Packing(view.uid_base, view.within, capabilities=True))
            packer.tree(view.root, "", "")
            packer.close()

    @told()
    def commit(self, id: str, spec: CommitSpec) -> Image:
        check_commit(spec)
        name_of(spec)
        wanted = self._records.spec(id).image
        with (
            self._images.held([wanted], "commit") as (lease, [base]),
            tempfile.TemporaryFile(dir=self._images.blobs.ingest) as layer,
        ):
            with self._views.upper(id) as view:
                target = _Bounded(cast("BinaryIO", layer), Room(self._images.blobs.ingest, MOST_BYTES))
                packer = Packer(
                    cast("BinaryIO", target), Packing(view.uid_base, layer=True, capabilities=True, left_out=is_place)
                )
                try:
                    packer.tree(view.root, "", "")
                    packer.close()
                except OverflowError:
                    raise ImageUnsuitable(
                        "A layer of the image is too large to unpack.", hint="Use a smaller image."
                    ) from None
            failpoint("commit.packed")
            layer.seek(0)
            return derive(self._images, base, cast("BinaryIO", layer), packer.newest, spec, lease)


class _Spared:
    """A copy that leaves a part of the node's disk free, as an image does: where it goes there may be no limit.  ``read`` raises OutOfSpace."""

    def __init__(self, source: BinaryIO, room: Room) -> None:
        self._source = source
        self._room = room

    def read(self, size: int) -> bytes:
        content = self._source.read(size)
        try:
            self._room.take(len(content))
        except OutOfSpace:
            raise node_full() from None
        return content


class _Bounded:
    """A file that never fills the node's disk.  ``write`` raises OutOfSpace, OverflowError."""

    def __init__(self, target: BinaryIO, room: Room) -> None:
        self._target = target
        self._room = room

    def write(self, content: bytes) -> int:
        self._room.take(len(content))
        return self._target.write(content)


def pack_one(packer: Packer, view: View, parts: tuple[str, ...]) -> None:
    """What the path is, under its last name; the root's own content under none.  Raises NotFound, InvalidSpec."""
    if not parts:
        packer.tree(view.root, "", "")
        return
    parent = open_folder(view, "/".join(parts[:-1]))
    name = parts[-1]
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not packer.file(parent, name, name):
            packer.tree(parent, name, name)
    except FileNotFoundError:
        raise _missing() from None
    finally:
        os.close(parent)


def open_folder(view: View, path: str) -> int:
    """A descriptor.  Raises NotFound, InvalidSpec, DeadlineExceeded."""
    try:
        folder = open_in_root(view.root, path, FOLDER)
    except FileNotFoundError:
        raise _missing() from None
    except NotADirectoryError:
        raise InvalidSpec(
            "The path goes through something that is not a folder.", hint="Check it.", field="path"
        ) from None
    if not view.within(os.fstat(folder)):
        os.close(folder)
        raise InvalidSpec("/proc, /sys and /dev hold no files to copy.", hint="Choose another path.", field="path")
    return folder


def _missing() -> NotFound:
    return NotFound("The container has no such path.", hint="Check it.", field="path")
