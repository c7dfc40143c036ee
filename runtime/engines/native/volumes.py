"""The verbs of :class:`runtime.api.Volumes` on this node's disk.

Two locks: ``volumes-<tenant>``, exclusive for who makes or removes one and shared by who makes a container, so that none is removed
while a container that wants it is being made; and one for each volume while it is mounted (:mod:`runtime.engines.native.volume_mounts`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from runtime import logs
from runtime.api import ContainerSpec, Volume, VolumeSpec
from runtime.engines.native import records
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Records
from runtime.engines.native.refusals import told
from runtime.errors import Conflict, DeadlineExceeded, EngineFault, NotFound
from runtime.home import Home
from runtime.kernel.tree import remove_tree
from runtime.storage import disk
from runtime.storage.volumes import Stored, VolumeStore
from runtime.validation_storage import check_volume

logger = logs.of(__name__)


class NativeVolumes:
    def __init__(self, home: Home, records: Records, store: VolumeStore | None = None) -> None:
        self._home = home
        self._records = records
        self._store = store or VolumeStore(home)

    @told()
    def create(self, spec: VolumeSpec) -> Volume:
        check_volume(spec)
        if spec.size_bytes is not None:
            disk.check_fits(self._home.state, spec.size_bytes, "size_bytes")
        with self._home.lock(f"volumes-{spec.tenant}"):
            known = self._known(spec)
            if known is None:
                cradle = self._store.prepare(spec)
                failpoint("volume.prepared")
                self._store.adopt(cradle)
            elif known.spec != replace(spec, labels=dict(spec.labels)):
                raise Conflict(
                    f"The name {spec.name!r} is taken by a volume of another kind.",
                    hint="Choose another.",
                    field="name",
                )
        return self.inspect(spec.tenant, spec.name)

    def _known(self, spec: VolumeSpec) -> Stored | None:
        try:
            return self._store.read(spec.tenant, spec.name)
        except NotFound:
            return None

    def inspect(self, tenant: str, name: str) -> Volume:
        check_volume(VolumeSpec(tenant, name))
        return self._volume(tenant, name)

    def _volume(self, tenant: str, name: str) -> Volume:
        return self._shown(tenant, name, self._store.read(tenant, name))

    def _shown(self, tenant: str, name: str, stored: Stored) -> Volume:
        return Volume(
            tenant=tenant,
            name=name,
            size_bytes=stored.spec.size_bytes,
            used_bytes=self._store.used(tenant, name),
            created_at=stored.created_at,
            labels=stored.spec.labels,
            containers=self._users(tenant, name),
        )

    def _users(self, tenant: str, name: str) -> tuple[str, ...]:
        return tuple(
            spec.id
            for spec, _ in self._records.all()
            if spec.tenant == tenant and any(one.volume == name for one in spec.volumes)
        )

    def list(self, *, tenant: str | None = None) -> tuple[Volume, ...]:
        found = []
        for owner, name in self._store.names(tenant):
            try:
                found.append(self._volume(owner, name))
            except NotFound:
                continue  # removed in this moment
            except records.Damaged:
                raise  # nobody knows which volumes a container has
            except EngineFault:
                logger.warning("what is known of the volume %s of %s is damaged", name, owner, exc_info=True)
                found.append(self._shown(owner, name, self._store.seen(owner, name)))
        return tuple(found)

    @told()
    def remove(self, tenant: str, name: str) -> None:
        check_volume(VolumeSpec(tenant, name))
        with self._home.lock(f"volumes-{tenant}"):
            if (tenant, name) not in self._store.names(tenant):
                return
            users = self._users(tenant, name)
            if users:
                raise Conflict(
                    "A container has the volume.",
                    hint="Remove the container first.",
                    field="volume",
                    container=users[0],
                )
            grave = self._store.bury(tenant, name)
            failpoint("volume.buried")
            remove_tree(grave)
            self._home.forget_lock(f"volume-{tenant}-{name}")

    def prune(self, *, tenant: str | None = None) -> tuple[Volume, ...]:
        gone = []
        for volume in self.list(tenant=tenant):
            if not volume.containers:
                with contextlib.suppress(Conflict):  # a container took it in this moment
                    self.remove(volume.tenant, volume.name)
                    gone.append(volume)
        return tuple(gone)

    # for the engine --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def kept(self, spec: ContainerSpec) -> Iterator[None]:
        """Those that a container wants are here, and stay while it is being written down.  Raises NotFound."""
        if not spec.volumes:
            yield
            return
        with self._home.lock(f"volumes-{spec.tenant}", shared=True):
            for index, wanted in enumerate(spec.volumes):
                try:
                    self._store.read(spec.tenant, wanted.volume)
                except NotFound as fault:
                    fault.field = f"volumes[{index}].volume"
                    raise
            yield

    def sweep(self) -> tuple[str, ...]:
        """What a crash left; what is being made or removed now is left alone."""
        swept = []
        for tenant in self._store.tenants():
            with contextlib.suppress(DeadlineExceeded), self._home.lock(f"volumes-{tenant}", timeout_s=0):
                for folder in self._store.leftovers(tenant):
                    remove_tree(folder)
                    swept.append(f"volume:{tenant}/{folder.name}")
        return tuple(swept)
