"""Snapshots: a container's writable layer over the layers of its image.

Image layers belong to the host's root.  Each is shown to a tenant through an id-mapped mount, which copies nothing; overlayfs
clones its layers' mounts when it is mounted, so the id-mapped ones are attached for that moment only.  The writable layer is
``upper`` and ``work`` in the container's folder or, with a limit, on a disk of that size (:mod:`runtime.storage.disk`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.errors import ImageUnsuitable, OutOfSpace
from runtime.home import Home
from runtime.kernel import idmap, mount
from runtime.kernel.tree import remove_tree
from runtime.storage import disk

MANY = 64
"""Layers: of more than these the names would soon outgrow what mount(2) takes, and images of Docker have up to 127."""


class Snapshots:
    def __init__(self, home: Home) -> None:
        self._home = home

    def prepare(self, folder: Path, uid_base: int, disk_bytes: int | None = None) -> None:
        """The writable layer in a container's (new) folder.  Raises OutOfSpace, HostUnfit, EngineFault."""
        try:
            if disk_bytes is not None:
                disk.make(folder / disk.FILE, disk_bytes, {"upper": uid_base, "work": 0})
                return
            for name in ("upper", "work"):
                (folder / name).mkdir(exist_ok=True)
                (folder / name).chmod(0o755)  # whatever the umask: upper's is the mode of the container's root
            os.chown(folder / "upper", uid_base, uid_base)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise OutOfSpace(
                    "The node's disk is full.", hint="Remove images or containers and try again."
                ) from None
            raise

    def layer(self, id: str) -> Path:
        """Where ``upper`` and ``work`` are; those of a container with a limit only while it is mounted."""
        folder = self._home.container(id)
        return self._home.run / "disk" / id if (folder / disk.FILE).exists() else folder

    def _limited(self, layer: Path, id: str) -> bool:
        return layer != self._home.container(id)

    def writable(self, id: str) -> Path:
        """As :meth:`layer`, mounted if need be.  The caller holds the container's lock and unmounts."""
        layer = self.layer(id)
        if self._limited(layer, id) and not os.path.ismount(layer):
            layer.mkdir(parents=True, exist_ok=True, mode=0o700)
            disk.show(self._home.container(id) / disk.FILE, layer)
        return layer

    def mount(self, id: str, lowers: Sequence[Path], uid_base: int) -> Path:
        """``lowers`` bottom first.  Returns the merged folder; mounted already: does nothing.  Raises ImageUnsuitable, OutOfSpace, OSError.

        A layer that an image has several times shows from its topmost place all that it shows at all, and overlayfs takes none twice (ELOOP).
        """
        merged = self.merged(id)
        if os.path.ismount(merged):
            return merged
        for parent in (self._home.run, merged.parent.parent, merged.parent):
            parent.mkdir(parents=True, exist_ok=True)
            parent.chmod(0o711 if parent != self._home.run else 0o755)
        merged.mkdir(exist_ok=True)
        layer = self.writable(id)
        userns = idmap.userns_fd(uid_base)
        stage = self._home.lower(id)
        try:
            stage.mkdir(parents=True, exist_ok=True)
            for number, lower in enumerate(topmost := tuple(dict.fromkeys(reversed(lowers)))):
                target = stage / str(number)
                target.mkdir(exist_ok=True)
                mount.idmapped_bind(lower, target, userns)
            with (
                _named(stage, short=len(topmost) > MANY) as name,
                disk.spared(layer) if self._limited(layer, id) else contextlib.nullcontext(),
            ):
                mapped = [name / str(number) for number in range(len(topmost))]
                mount.overlay(mapped, layer / "upper", layer / "work", merged)
        except OSError as error:
            if error.errno == errno.ENOSPC and self._limited(layer, id) and disk.full(layer):
                raise OutOfSpace(
                    "The container's disk or volume is full.", hint="Make room in it, or use a larger one."
                ) from None
            if error.errno == errno.E2BIG:
                raise ImageUnsuitable(
                    f"The image has {len(lowers)} layers, more than one overlay mount can hold.",
                    hint="Squash the image.",
                ) from None
            raise
        finally:
            self._clear_stage(stage)
        return merged

    @staticmethod
    def _clear_stage(stage: Path) -> None:
        if stage.is_dir():
            for point in stage.iterdir():
                mount.unmount(point, lazy=True)
                point.rmdir()
            stage.rmdir()

    def unmount(self, id: str) -> None:
        """Lazy: a process of the host that still looks into the container must not keep it."""
        mount.unmount(self.merged(id), lazy=True)
        self._clear_stage(self._home.lower(id))
        shutil.rmtree(self._home.bundle(id), ignore_errors=True)
        layer = self._home.run / "disk" / id
        if layer.is_dir():
            mount.unmount(layer, lazy=True)
            layer.rmdir()

    def mounted(self, id: str) -> bool:
        return any(map(os.path.ismount, (self.merged(id), self._home.run / "disk" / id)))

    def merged(self, id: str) -> Path:
        return self._home.bundle(id) / "merged"

    @staticmethod
    def discard(folder: Path) -> None:
        """Delete a folder that holds a snapshot, never crossing into something mounted."""
        for point in mount.mounts_under(folder):
            mount.unmount(point, lazy=True)
        remove_tree(folder)

    def upper_size(self, id: str) -> int | None:
        """Bytes on disk; None: nobody can count them in a moment."""
        from runtime.storage import usage

        return usage.on_disk(self.layer(id) / "upper")


@contextlib.contextmanager
def _named(folder: Path, *, short: bool) -> Iterator[Path]:
    """A name of the folder in this process, as it is or by a descriptor."""
    if not short:
        yield folder
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
