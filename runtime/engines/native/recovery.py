"""After a crash, an upgrade or a reboot: compare what should be with what is, and make it whole again."""

from __future__ import annotations

import contextlib
from pathlib import Path

from runtime.api import Reconciliation, State
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.removal import Removal
from runtime.errors import RuntimeFault
from runtime.home import Home
from runtime.kernel import cgroup, mount
from runtime.network.attach import TenantNetworks


class Recovery:
    def __init__(self, home: Home, lifecycle: Lifecycle, removal: Removal, networks: TenantNetworks) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._removal = removal
        self._networks = networks
        self._records = lifecycle.records

    def reconcile(self) -> Reconciliation:
        found: dict[str, list[str]] = {"adopted": [], "settled": [], "removed": []}
        for id in self._records.ids():
            with self._home.lock(id):
                outcome = self._one(id)
            if outcome:
                found[outcome].append(id)
        return Reconciliation(**{key: tuple(ids) for key, ids in found.items()}, swept=self._sweep())

    def _one(self, id: str) -> str | None:
        if not self._records.exists(id):
            return None
        record, spec = self._records.record(id), self._records.spec(id)
        if record.state is State.REMOVING:
            self._removal.finish(spec)
            return "removed"
        if record.starting:
            record = self._lifecycle.finish_start(spec, record)
        if record.state is not State.RUNNING:
            return None
        if self._lifecycle.ended(record):
            self._lifecycle.settle(spec, record)
            return "settled"
        self._networks.ensure(spec.tenant)
        return "adopted"

    # leftovers -------------------------------------------------------------------------------------------

    def _sweep(self) -> tuple[str, ...]:
        """What carries this instance's name and belongs to no container.  A container in the making holds its lock and has a folder."""
        known = set(self._records.ids())
        swept = [f"folder:{name}" for name in self._removal.sweep_folders()]
        for id in self._lifecycle.runtime.known():
            if id not in known:
                swept += self._sweep_one(id)
        swept += self._networks.sweep(known)
        swept += self._sweep_cgroups(known)
        for point in (*mount.mounts_under(self._home.run / "lower"), *mount.mounts_under(self._home.run / "bundle")):
            if not known & set(point.parts):
                mount.unmount(point, lazy=True)
                swept.append(f"mount:{point.parent.name}")
        return tuple(swept)

    def _sweep_one(self, id: str) -> list[str]:
        with contextlib.suppress(RuntimeFault):
            self._lifecycle.runtime.delete(id)
            return [f"runtime:{id}"]
        return []

    def _sweep_cgroups(self, known: set[str]) -> list[str]:
        swept = []
        root = Path("/sys/fs/cgroup") / ("" if cgroup.version() == 2 else "memory") / self._home.instance
        for folder in sorted(root.glob("*/*/")):
            if folder.name not in known and folder.is_dir():
                group = cgroup.Cgroup(f"/{self._home.instance}/{folder.parent.name}/{folder.name}")
                if not group.populated():
                    group.remove()
                    swept.append(f"cgroup:{folder.name}")
        return swept

    def remove_tenant_cgroups(self) -> None:
        root = cgroup.Cgroup(f"/{self._home.instance}")
        if not root.populated():
            root.remove()
