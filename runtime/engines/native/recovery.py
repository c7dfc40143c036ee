"""After a crash, an upgrade or a reboot: compare what should be with what is, and make it whole again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from runtime import logs
from runtime.api import ContainerSpec, Reconciliation, State
from runtime.engines.native import execs, retelling, supervisor
from runtime.engines.native.damage import Damage, containers_in_kernel
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.records import Damaged, Record
from runtime.engines.native.refusals import refuse_unconfined, told
from runtime.engines.native.removal import Removal
from runtime.engines.native.volumes import NativeVolumes
from runtime.errors import DeadlineExceeded, EngineFault, NotFound, RuntimeFault
from runtime.home import Home, sweep_temporaries
from runtime.image.store import ImageStore
from runtime.kernel import cgroup, freezer, link
from runtime.network import holding, placement, sweeping
from runtime.network.attach import TenantNetworks
from runtime.network.endpoint import Endpoint

logger = logs.of(__name__)

RUN_FOLDERS = (
    ("runc", "runtime"), ("lower", "mount"), ("bundle", "mount"), ("disk", "mount"), ("volumes", "mount"), ("conmon", "folder"),
    ("exits", "folder"),
)  # fmt: skip
"""Folders of RUN with an entry for each container that is in the kernel, and what such an entry is told as."""


BUSY_S = 1.0
"""Whoever has the container for longer is at work with it, and not what a crash left."""


@contextlib.contextmanager
def _apart(what: str, failed: list[str]) -> Iterator[None]:
    """A step the failure of which is told, and keeps nobody from the next."""
    try:
        with told():
            yield
    except (RuntimeFault, OSError, ValueError) as fault:
        logger.exception("the %s could not be put right", what)
        failed.append(f"{what}: {fault if isinstance(fault, RuntimeFault) else type(fault).__name__}")


class Recovery:
    def __init__(
        self,
        home: Home,
        lifecycle: Lifecycle,
        removal: Removal,
        damage: Damage,
        networks: TenantNetworks,
        images: ImageStore,
        volumes: NativeVolumes,
    ) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._removal = removal
        self._damage = damage
        self._networks = networks
        self._images = images
        self._volumes = volumes
        self._records = lifecycle.records

    def reconcile(self) -> Reconciliation:
        found: dict[str, list[str]] = {"adopted": [], "settled": [], "removed": [], "failed": []}
        with _apart("networks", found["failed"]):
            self._networks.restore()
        with _apart("ceilings", found["failed"]):
            self._lifecycle.ceilings.restore(self._records)
        for id in self._records.ids():
            try:
                with self._home.lock(id), told():
                    outcome = self._one(id)
            except (RuntimeFault, OSError, ValueError) as fault:
                logger.exception("%s could not be put right", id)
                found["failed"].append(f"{id}: {fault if isinstance(fault, RuntimeFault) else type(fault).__name__}")
            else:
                if outcome:
                    found[outcome].append(id)
        with _apart("events", found["failed"]):
            retelling.retell(self._lifecycle.journal, self._records, self._home)
        swept = self.sweep(failed=found["failed"])
        return Reconciliation(**{key: tuple(ids) for key, ids in found.items()}, swept=swept)

    def _one(self, id: str) -> str | None:
        if not self._records.exists(id):
            return None
        record, spec = self._records.record(id), self._records.spec(id)
        if record.state is State.REMOVING:
            self._removal.finish(spec, again=True)
            return "removed"
        self._claim_again(spec)
        if record.starting:
            record = self._lifecycle.finish_start(spec, record)
        if record.state is not State.RUNNING:
            if self._lifecycle.mounted(id):  # for a copy that a crash cut short
                self._lifecycle.unmount(id)
            return None
        spec, record = self._lifecycle.finish_update(spec, record)
        if self._lifecycle.ended(record):
            self._lifecycle.settle(spec, record)
            return "settled"
        paused = freezer.frozen(self._home.cgroup(spec.tenant, id))
        if paused != record.paused:
            self._records.save(id, replace(record, paused=paused))
        record = self._records.record(id)
        self._networks.heal(spec, record.networks, record.ports)
        spec, record = self._lifecycle.connecting.finish(spec, record)
        endpoint = self._networks.endpoint(id)
        if endpoint is not None:
            self._networks.keep(endpoint)
            self._networks.rename(id, spec.name)  # should a crash have kept it from being told
        lost = self._lost(spec, record, endpoint)
        if lost is not None and self._lifecycle.ended(record):  # since it was looked at; its supervisor goes with it
            self._lifecycle.settle(spec, record)
            return "settled"
        if lost is not None:
            raise lost
        return "adopted"

    def _claim_again(self, spec: ContainerSpec) -> None:
        """What it should have, should the claims be gone or damaged."""
        for address in holding.hold_again(self._home, spec):
            logger.warning("%s has the fixed address %s, which another holds", spec.id, address)
        if not self._removal.names(spec.tenant).take(spec.name, spec.id):
            logger.warning("%s has the name %s, which another has taken", spec.id, spec.name)

    def _lost(self, spec: ContainerSpec, record: Record, endpoint: Endpoint | None) -> EngineFault | None:
        """What somebody took from a container that runs."""
        try:
            refuse_unconfined(self._home.cgroup(spec.tenant, spec.id), record.pid or 0)
        except EngineFault as fault:
            return fault
        if endpoint is None or not all(link.exists(place.interface) for place in endpoint.places):
            return EngineFault("The container's network interface is gone.", hint="Restart the container.")
        if not supervisor.alive(self._home, spec.id):
            return EngineFault("The container's supervisor is gone.", hint="Restart the container.")
        return None

    # leftovers -------------------------------------------------------------------------------------------

    def sweep(self, *, alive: bool = False, failed: list[str] | None = None) -> tuple[str, ...]:
        """What carries this instance's name and belongs to no container; what still has processes only if ``alive``.

        A container in the making holds its id's lock, so each id is looked at again under its lock before anything goes.  What cannot be
        swept is told in ``failed`` and holds up nothing else.
        """
        swept: list[str] = []
        for what, step in (
            ("folders", lambda: [f"folder:{name}" for name in self._removal.sweep_folders()]),
            ("names", lambda: [f"name:{name}" for name in self._removal.sweep_names(self._records.spec)]),
            ("addresses", self._unfixed),
            ("images", self._images.sweep),
            ("volumes", self._volumes.sweep),
            ("networks", self._sweep_networks),
            ("files", self._sweep_temporaries),
            ("commands", lambda: [f"exec:{name}" for name in execs.sweep(self._home.run / "exec")]),
            ("addresses", self._unplaced),
            ("leftovers", lambda: self._sweep_strays(alive)),
        ):
            with _apart(what, failed if failed is not None else []):
                swept += step()
        return tuple(swept)

    def _sweep_networks(self) -> tuple[str, ...]:
        with self._networks.removing():
            return sweeping.sweep(self._home, self._networks)

    def _sweep_temporaries(self) -> list[str]:
        swept = []
        for folder in (
            self._home.final, self._home.state / "totals", self._home.tenants, self._home.images, self._home.run / "endpoints",
            self._home.run / "bridges", self._home.run / "interfaces", self._lifecycle.ceilings.folder, *self._home.networks.glob("*"),
        ):  # fmt: skip
            swept += [f"file:{name}" for name in sweep_temporaries(folder)]
        for id in self._records.ids():
            swept += [f"file:{id}/{name}" for name in sweep_temporaries(self._home.container(id))]
        return swept

    def _sweep_strays(self, alive: bool) -> list[str]:
        swept = []
        strays = {id for id, _ in self._belongings()}
        for id in sorted(strays - set(self._records.ids())):
            try:
                with self._home.lock(id):
                    swept += self._sweep_one(id, alive)
            except (RuntimeFault, OSError):
                logger.exception("what is left of %s could not be swept", id)
        return swept

    def _unplaced(self) -> list[str]:
        """Addresses that a crash on the way onto a network left with a container that lives."""
        freed: list[str] = []
        for id in placement.strays(self._home):
            with contextlib.suppress(DeadlineExceeded), self._home.lock(id, timeout_s=BUSY_S):
                endpoint = self._networks.readable(id)
                freed += placement.free_unplaced(self._home, endpoint) if endpoint else ()
        return [f"address:{address}" for address in freed]

    def _unfixed(self) -> list[str]:
        """Fixed addresses that a crash left with containers on their way onto a network or off one."""
        freed: list[str] = []
        for claims, id, address in tuple(holding.holdings(self._home)):
            if self._may_hold(id, address):
                continue
            with contextlib.suppress(DeadlineExceeded), self._home.lock(id, timeout_s=BUSY_S):
                if not self._may_hold(id, address) and claims.free(address, id):
                    freed.append(f"fixed:{address}")
        return freed

    def _may_hold(self, id: str, address: str) -> bool:
        """Also of one that is damaged, as far as anybody knows, and of one that is gone: that is swept with all that is its."""
        try:
            spec = self._records.spec(id)
            return address in holding.fixed(self._home, spec.tenant, spec.networks)
        except (Damaged, NotFound):
            return True

    def _belongings(self) -> Iterator[tuple[str, str]]:
        """(container's id, ``kind:name``) of everything in the kernel and in RUN that a container may have."""
        yield from self._networks.belongings()
        yield from self._removal.named()
        for _, owner, address in holding.holdings(self._home):
            yield owner, f"fixed:{address}"
        for _, id in containers_in_kernel(self._home):
            yield id, f"cgroup:{id}"
        for name, kind in RUN_FOLDERS:
            root = self._home.run / name
            for entry in sorted(root.iterdir()) if root.is_dir() else ():
                yield entry.name.partition(".")[0], f"{kind}:{entry.name}"

    def _sweep_one(self, id: str, alive: bool) -> list[str]:
        """The caller holds the id's lock."""
        left = [what for owner, what in self._belongings() if owner == id]
        if self._records.exists(id) or not left:
            return []
        tenants = tuple(tenant for tenant, owner in containers_in_kernel(self._home) if owner == id)
        if not alive and any(cgroup.Cgroup(self._home.cgroup(tenant, id)).populated() for tenant in tenants):
            logger.warning("%s has processes and no container; it is left alone", id)
            return []
        for tenant in tenants:
            cgroup.Cgroup(self._home.cgroup(tenant, id)).kill()
            self._damage.store_final(tenant, id)
        for tenant in tenants or ("",):
            self._lifecycle.abandon(id, tenant)
        self._removal.free_all(id)
        self._home.forget_lock(id)
        return left

    def remove_tenant_cgroups(self) -> None:
        root = cgroup.Cgroup(f"/{self._home.instance}")
        if not root.populated():
            root.remove()
