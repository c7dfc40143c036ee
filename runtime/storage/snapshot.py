"""Snapshots: a container's writable layer over the layers of its image.

Image layers belong to the host's root.  Each is shown to a tenant through an id-mapped mount, which copies nothing; overlayfs
clones its layers' mounts when it is mounted, so the id-mapped ones are attached for that moment only.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import ImageUnsuitable, OutOfSpace
from runtime.home import Home
from runtime.kernel import idmap, mount
from runtime.kernel.tree import remove_tree


class Snapshots:
    def __init__(self, home: Home) -> None:
        self._home = home

    def prepare(self, folder: Path, uid_base: int) -> None:
        """``upper`` and ``work`` in a container's (new) folder.  Raises OutOfSpace."""
        try:
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

    def mount(self, id: str, lowers: Sequence[Path], uid_base: int) -> Path:
        """``lowers`` bottom first.  Returns the merged folder; mounted already: does nothing.  Raises ImageUnsuitable, OSError."""
        folder = self._home.container(id)
        merged = self.merged(id)
        if os.path.ismount(merged):
            return merged
        for parent in (self._home.run, merged.parent.parent, merged.parent):
            parent.mkdir(parents=True, exist_ok=True)
            parent.chmod(0o711 if parent != self._home.run else 0o755)
        merged.mkdir(exist_ok=True)
        userns = idmap.userns_fd(uid_base)
        stage = self._home.lower(id)
        try:
            mapped = []
            for number, lower in enumerate(reversed(lowers)):
                target = stage / str(number)
                target.mkdir(parents=True, exist_ok=True)
                mount.idmapped_bind(lower, target, userns)
                mapped.append(target)
            mount.overlay(mapped, folder / "upper", folder / "work", merged)
        except OSError as error:
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

    def merged(self, id: str) -> Path:
        return self._home.bundle(id) / "merged"

    @staticmethod
    def discard(folder: Path) -> None:
        """Delete a folder that holds a snapshot, never crossing into something mounted."""
        for point in mount.mounts_under(folder):
            mount.unmount(point, lazy=True)
        remove_tree(folder)

    def upper_size(self, id: str) -> int:
        """Bytes on disk."""
        return disk_usage(self._home.container(id) / "upper")


def disk_usage(folder: Path) -> int:
    """Bytes on disk below a folder; hard links count once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            stat = os.lstat(os.path.join(parent, name))
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_blocks * 512
    return total
