"""Removal in phases: mark, release, rename away, give the name back, delete the files.  A crash after any is finished by the next."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from runtime.api import ContainerSpec, EventKind
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.records import Damaged
from runtime.errors import NotFound
from runtime.home import Home
from runtime.network import holding
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

    def finish(self, spec: ContainerSpec, *, again: bool, settled: bool = False) -> None:
        """The caller holds the lock and has marked the container; its process is gone.  ``again``: somebody had begun it.

        ``settled``: just now, under the same lock, so the kernel has nothing of it any more.
        """
        if not settled:
            self._lifecycle.abandon(spec.id, spec.tenant)
        journal = self._lifecycle.journal
        if not again or not journal.told(spec.id, EventKind.REMOVED):
            journal.tell(EventKind.REMOVED, spec.id, tenant=spec.tenant, name=spec.name)
        failpoint("remove.told")
        self.bury(spec.id, lambda: self._free(spec))

    def _free(self, spec: ContainerSpec) -> None:
        self.names(spec.tenant).free(spec.name, spec.id)
        failpoint("remove.unnamed")
        holding.let_go(self._home, spec, spec.networks)

    def bury(self, id: str, free: Callable[[], object]) -> None:
        """Its files, then what it has claimed; the kernel has nothing of it any more.  A crash before the end leaves it as it was, or
        to the sweep.
        """
        grave = self._home.containers / f"{GRAVE}{id}"
        if grave.exists():  # of one of the same id, whose removal a crash cut short
            Snapshots.discard(grave)
        os.rename(self._home.container(id), grave)
        failpoint("remove.renamed")
        free()
        failpoint("remove.freed")
        Snapshots.discard(grave)
        self._home.forget_lock(id)

    def sweep_folders(self) -> tuple[str, ...]:
        """Folders of removals and creations that a crash cut short."""
        swept = []
        folder = self._home.containers
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            mark = next((mark for mark in (GRAVE, CRADLE) if entry.name.startswith(mark)), None)
            if mark is None:
                continue
            with self._home.lock(entry.name.removeprefix(mark)):
                if entry.exists():
                    Snapshots.discard(entry)
                    swept.append(entry.name)
        return tuple(swept)

    def _all_names(self) -> Iterator[Claims]:
        tenants = self._home.state / "names"
        for tenant in sorted(tenants.iterdir()) if tenants.is_dir() else ():
            yield Claims(tenant)

    def named(self) -> Iterator[tuple[str, str]]:
        """(container's id, ``name:...``) of each name that is taken."""
        for claims in self._all_names():
            for owner, name in claims.holdings():
                yield owner, f"name:{name}"

    def name_of(self, id: str) -> tuple[str, str] | None:
        """(tenant, name) by the claim on it."""
        return next((
            (claims.folder.name, name) for claims in self._all_names() for owner, name in claims.holdings() if owner == id
        ), None)  # fmt: skip

    def sweep_names(self, spec_of: Callable[[str], ContainerSpec]) -> tuple[str, ...]:
        """Names that a renaming cut short left to containers that have another."""
        swept = []
        for claims in self._all_names():
            for owner, name in tuple(claims.holdings()):
                with contextlib.suppress(NotFound, Damaged):  # one of no container is swept with all that is its
                    if spec_of(owner).name != name:
                        with self._home.lock(owner):
                            swept += self._free_old(claims, spec_of(owner), name)
        return tuple(swept)

    @staticmethod
    def _free_old(claims: Claims, spec: ContainerSpec, name: str) -> list[str]:
        return [name] if spec.name != name and claims.free(name, spec.id) else []

    def free_all(self, id: str) -> None:
        """The name and the fixed addresses of one whose specification is gone."""
        for claims in self._all_names():
            claims.free_all(id)
        failpoint("remove.unnamed")
        holding.let_go_of_all(self._home, id)
