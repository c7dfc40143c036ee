"""Volumes of one container while it has a root: id-mapped mounts ``RUN/volumes/<container>/<n>``, n its place in the spec.

A volume with a limit is mounted once more for each container; the kernel keeps one file system of it and lets its device go with
the last.  Nothing here is ever deleted but empty folders: what is mounted on them is people's data.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from runtime.api import ContainerSpec, VolumeMount
from runtime.engines.native import etc
from runtime.engines.native.failpoint import failpoint
from runtime.errors import OutOfSpace
from runtime.home import Home
from runtime.image.room import disk_full
from runtime.kernel import idmap, mount
from runtime.kernel.beneath import FOLDER, make_folders, open_in_root
from runtime.kernel.identity import acting_as
from runtime.kernel.tree import remove_tree
from runtime.storage import disk
from runtime.storage.volumes import DATA, FILLING, VolumeStore
from runtime.validation_storage import path_parts

SAFE = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
LOCK_S = 600.0
"""Another container may be filling the volume from its image."""


class VolumeMounts:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._store = VolumeStore(home)

    def attach(self, spec: ContainerSpec, uid_base: int, merged: Path) -> None:
        """Mount them; the first container that has one fills it from ``merged``, its root.

        The caller holds the container's lock.  Mounted already: does nothing.  Raises NotFound, OutOfSpace, OSError.
        """
        if not spec.volumes:
            return
        folder = self._home.volume_mounts(spec.id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.parent.chmod(0o711)
        os.chown(folder, uid_base, uid_base)  # the container's own root must pass through, and nobody else of the host
        for number, wanted in enumerate(spec.volumes):
            target = self._home.volume_mounts(spec.id) / str(number)
            target.mkdir(exist_ok=True)
            if not os.path.ismount(target):
                with (
                    self._home.lock(f"volume-{spec.tenant}-{wanted.volume}", timeout_s=LOCK_S),
                    self._shown(spec, wanted) as data,
                ):
                    self._fill(spec.tenant, wanted, uid_base, merged, data)
                    if wanted.read_only and path_parts(wanted.path) == etc.FOLDER:
                        _make_files(data / DATA, wanted.volume)
                    userns = idmap.userns_fd(uid_base)
                    mount.idmapped_bind(data / DATA, target, userns, read_only=wanted.read_only, flags=SAFE)

    @contextlib.contextmanager
    def _shown(self, spec: ContainerSpec, wanted: VolumeMount) -> Iterator[Path]:
        """The folder with the volume's data, mounted for that moment if it is on a disk."""
        folder = self._store.folder(spec.tenant, wanted.volume)
        if not (folder / disk.FILE).exists():
            yield folder
            return
        stage = self._home.lower(spec.id) / "volume"
        stage.mkdir(parents=True, exist_ok=True)
        try:
            disk.show(folder / disk.FILE, stage)
            yield stage
        finally:
            mount.unmount(stage, lazy=True)
            stage.rmdir()

    def _fill(self, tenant: str, wanted: VolumeMount, uid_base: int, merged: Path, data: Path) -> None:
        stored = self._store.read(tenant, wanted.volume)
        if not stored.fresh:
            return
        root = os.open(merged, FOLDER | os.O_CLOEXEC)
        try:
            source = _folder(root, wanted.path)
            if source is not None and not any((data / DATA).iterdir()):
                self._copy(source, uid_base, data, wanted.volume)
        finally:
            os.close(root)
        self._store.write(replace(stored, fresh=False))
        failpoint("volume.used")

    @staticmethod
    def _copy(source: int, uid_base: int, data: Path, name: str) -> None:
        """All or nothing: under another name until it is whole."""
        from runtime.engines.native.transfer import copy_tree

        filling = data / FILLING
        remove_tree(filling)
        filling.mkdir()
        try:
            found = os.fstat(source)
            os.chown(filling, max(0, found.st_uid - uid_base), max(0, found.st_gid - uid_base))
            filling.chmod(stat.S_IMODE(found.st_mode))
            copy_tree(source, uid_base, filling)
            os.sync()
            failpoint("volume.filled")
            os.rename(filling, data / DATA)
        except OutOfSpace:
            raise OutOfSpace(
                f"The volume {name!r} has no room for what the image has at its path.",
                hint="Use a larger volume.",
                field="volumes",
            ) from None
        finally:
            os.close(source)
            remove_tree(filling)

    def show_in(self, spec: ContainerSpec, uid_base: int, root: int) -> None:
        """Show those that are mounted at their paths below ``root``, as the container's runtime does when it starts."""
        order = sorted(enumerate(spec.volumes), key=lambda one: path_parts(one[1].path))
        for number, wanted in order:
            with acting_as(uid_base):
                folder = make_folders(root, path_parts(wanted.path), uid_base)
            try:
                mount.bind_onto(self._home.volume_mounts(spec.id) / str(number), folder)
            finally:
                os.close(folder)

    def detach(self, id: str) -> None:
        folder = self._home.volume_mounts(id)
        if not folder.is_dir():
            return
        for target in sorted(folder.iterdir()):
            # mounted twice where the volume and RUN are on one disk, which ismount cannot tell
            while mount.unmount(target, lazy=True):
                continue
            target.rmdir()
        folder.rmdir()


def _make_files(data: Path, name: str) -> None:
    """Those that the runtime mounts its own at; in a volume that can be written to it makes them itself."""
    try:
        for file in etc.FILES:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(data / file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    except OSError as error:
        if not disk_full(error):
            raise
        raise OutOfSpace(
            f"The volume {name!r} has no room for what the image has at its path.",
            hint="Use a larger volume.",
            field="volumes",
        ) from None


def _folder(root: int, path: str) -> int | None:
    """What the image has there, if that is a folder."""
    try:
        return open_in_root(root, path, FOLDER)
    except OSError:
        return None
