"""Volumes on disk: ``HOME/runtime/volumes/<tenant>/<name>/`` with ``volume.json`` and either ``data/`` or a disk with ``data/`` in it.

Owners in ``data`` are the container's own, from 0; containers see it through an id-mapped mount.  A volume is there when its folder has
its name: it is made and removed under another.  Callers hold the locks.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from runtime.api import ID_PATTERN, VolumeSpec
from runtime.encoding import check
from runtime.errors import EngineFault, NotFound
from runtime.home import Home, atomic_write, decoding, folders, sweep_temporaries
from runtime.kernel.tree import remove_tree
from runtime.storage import disk
from runtime.validation_storage import NAME

NEW, GONE = ".new-", ".gone-"
DATA, FILLING, RECORD = "data", "filling", "volume.json"
TENANT = re.compile(ID_PATTERN)


@dataclass(frozen=True, slots=True)
class Stored:
    spec: VolumeSpec
    created_at: float
    fresh: bool = True
    """No container has started with it yet."""


class VolumeStore:
    def __init__(self, home: Home) -> None:
        self._root = home.state / "volumes"

    def folder(self, tenant: str, name: str) -> Path:
        return self._root / tenant / name

    def names(self, tenant: str | None = None) -> Iterator[tuple[str, str]]:
        """(tenant, name), in order."""
        for owner in self.tenants():
            if tenant in {None, owner}:
                yield from ((owner, name) for name in sorted(folders(self._root / owner, NAME)))

    def read(self, tenant: str, name: str) -> Stored:
        """Raises NotFound, or EngineFault: its file is damaged."""
        try:
            content = (self.folder(tenant, name) / RECORD).read_bytes()
        except FileNotFoundError:
            if self.folder(tenant, name).is_dir():  # it is made and removed under another name
                raise EngineFault(
                    f"A file of the node's state is damaged: {RECORD}.", hint="Restore it from a backup of the node."
                ) from None
            raise NotFound(f"There is no volume {name!r}.", hint="Create it first.", field="volume") from None
        with decoding(self.folder(tenant, name) / RECORD):
            fields = json.loads(content)
            found = Stored(VolumeSpec(**fields["spec"]), fields["created_at"], fields["fresh"])
            check(found)
            return found

    def seen(self, tenant: str, name: str) -> Stored:
        """Of one whose file is damaged: what its folder tells.  Labels are lost."""
        folder = self.folder(tenant, name)
        image = folder / disk.FILE
        size = image.stat().st_size if image.exists() else None
        return Stored(VolumeSpec(tenant, name, size), folder.stat().st_mtime, fresh=False)

    def write(self, stored: Stored) -> None:
        _write(self.folder(stored.spec.tenant, stored.spec.name), stored)

    def prepare(self, spec: VolumeSpec) -> Path:
        """All of a new volume but its name.  Raises as :func:`runtime.storage.disk.make`."""
        cradle = self._root / spec.tenant / f"{NEW}{spec.name}"
        remove_tree(cradle)
        cradle.mkdir(parents=True, mode=0o700)
        try:
            self._make_content(cradle, spec.size_bytes)
            _write(cradle, Stored(spec, time.time()))
        except BaseException:
            remove_tree(cradle)
            raise
        return cradle

    def _make_content(self, cradle: Path, size: int | None) -> None:
        if size is not None:
            disk.make(cradle / disk.FILE, size, {DATA: 0})
            return
        (cradle / DATA).mkdir()
        (cradle / DATA).chmod(0o755)

    def adopt(self, cradle: Path) -> None:
        os.rename(cradle, cradle.with_name(cradle.name.removeprefix(NEW)))

    def bury(self, tenant: str, name: str) -> Path:
        """From here on there is no such volume."""
        grave = self._root / tenant / f"{GONE}{name}.{os.urandom(4).hex()}"
        os.rename(self.folder(tenant, name), grave)
        return grave

    def used(self, tenant: str, name: str) -> int | None:
        """Bytes on the node's disk; None: nobody can count them in a moment."""
        folder = self.folder(tenant, name)
        image = folder / disk.FILE
        if image.exists():
            return disk.room_taken(image)
        from runtime.storage import usage

        return usage.on_disk(folder / DATA)

    def leftovers(self, tenant: str) -> Iterator[Path]:
        """What a crash left of makings, removals and writes."""
        for entry in sorted((self._root / tenant).iterdir()):
            if entry.name.startswith((NEW, GONE)):
                yield entry
            else:
                sweep_temporaries(entry)

    def tenants(self) -> tuple[str, ...]:
        return tuple(sorted(folders(self._root, TENANT)))


def _write(folder: Path, stored: Stored) -> None:
    plain = replace(stored, spec=replace(stored.spec, labels=dict(stored.spec.labels)))
    atomic_write(folder / RECORD, json.dumps(asdict(plain)).encode())
