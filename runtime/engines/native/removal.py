"""Removal in phases: mark, release, rename away, give the name back, delete the files.  A crash after any is finished by the next."""

from __future__ import annotations

import os

from runtime.api import ContainerSpec
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.lifecycle import Lifecycle
from runtime.home import Home
from runtime.network.claims import Claims
from runtime.storage.snapshot import Snapshots

GRAVE = ".removed-"
CRADLE = ".new-"


class Removal:
    def __init__(self, home: Home, lifecycle: Lifecycle) -> None:
        self._home = home
        self._lifecycle = lifecycle

    def names(self, tenant: str) -> Claims:
        """The names that a tenant's containers have."""
        return Claims(self._home.state / "names" / tenant)

    def finish(self, spec: ContainerSpec) -> None:
        """The caller holds the lock and has marked the container; its process is gone."""
        self._lifecycle.abandon(spec.id, spec.tenant)
        grave = self._home.containers / f"{GRAVE}{spec.id}"
        os.rename(self._home.container(spec.id), grave)
        failpoint("remove.renamed")
        self.names(spec.tenant).free(spec.name, spec.id)
        Snapshots.discard(grave)
        self._home.forget_lock(spec.id)

    def sweep_folders(self) -> tuple[str, ...]:
        """Folders of removals and creations that a crash cut short, and names whose containers are gone."""
        swept = []
        folder = self._home.containers
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if entry.name.startswith(GRAVE):
                Snapshots.discard(entry)
                swept.append(entry.name)
            elif entry.name.startswith(CRADLE):
                with self._home.lock(entry.name.removeprefix(CRADLE)):
                    if entry.exists():
                        Snapshots.discard(entry)
                        swept.append(entry.name)
        known = {entry.name.removeprefix(CRADLE) for entry in folder.iterdir()} if folder.is_dir() else set()
        tenants = self._home.state / "names"
        for tenant in sorted(tenants.iterdir()) if tenants.is_dir() else ():
            swept += [f"name {name}" for name in Claims(tenant).sweep(known)]
        return tuple(swept)
