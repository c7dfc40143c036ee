"""Creation: a spec is checked against the node and written down, with a writable layer and a name, and nothing runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from runtime import validation
from runtime.api import ContainerSpec, EventKind, Progress, State, Step
from runtime.engines.native import records
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Record
from runtime.engines.native.removal import CRADLE, Removal
from runtime.errors import Conflict
from runtime.home import Home, atomic_write
from runtime.network import holding
from runtime.storage.disk import check_fits
from runtime.storage.snapshot import Snapshots

if TYPE_CHECKING:
    from runtime.engines.native.lifecycle import Lifecycle
    from runtime.engines.native.volumes import NativeVolumes
    from runtime.image.store import ImageStore


class Creation:
    def __init__(
        self,
        home: Home,
        lifecycle: Lifecycle,
        removal: Removal,
        images: ImageStore,
        volumes: Callable[[], NativeVolumes],
    ) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._records = lifecycle.records
        self._removal = removal
        self._images = images
        self._volumes = volumes

    def create(self, spec: ContainerSpec, progress: Progress) -> tuple[ContainerSpec, Record]:
        """As :meth:`runtime.api.Engine.create`; what is there when it was created before."""
        validation.check(spec)
        self._lifecycle.ceilings.check(spec.limits)
        networks = self._lifecycle.networks
        with self._home.lock(spec.id):
            if self._records.exists(spec.id):
                if records.encode_spec(spec) != records.encode_spec(self._records.spec(spec.id)):
                    raise Conflict("A container with this id exists with another configuration.", field="id")
                return self._records.both(spec.id)
            if spec.limits.disk_bytes is not None:
                check_fits(self._home.state, spec.limits.disk_bytes, "limits.disk_bytes")
            # from here to the record nobody may remove the image, a volume or a network
            with self._images.adding(), self._kept(spec), networks.adding():
                networks.check(spec)
                image = self._images.image(spec.image)
                validation.check_image(spec, image)
                progress(Step("create"))
                self._images.uses.note(image.id)
                return spec, self._make(spec)

    def _kept(self, spec: ContainerSpec) -> AbstractContextManager[None]:
        """The volumes that it wants, if any: few do."""
        return self._volumes().kept(spec) if spec.volumes else contextlib.nullcontext()

    def _make(self, spec: ContainerSpec) -> Record:
        cradle = self._home.containers / f"{CRADLE}{spec.id}"
        names = self._removal.names(spec.tenant)
        with contextlib.ExitStack() as undo:
            shutil.rmtree(cradle, ignore_errors=True)
            cradle.mkdir(mode=0o700)
            undo.callback(shutil.rmtree, cradle, ignore_errors=True)
            if not names.take(spec.name, spec.id):
                raise Conflict(
                    f"The name {spec.name!r} is taken.",
                    hint="Choose another, or remove the other container.",
                    field="name",
                )
            undo.callback(names.free, spec.name, spec.id)
            failpoint("create.claimed")
            holding.hold(self._home, spec, self._records.name)
            undo.callback(holding.let_go, self._home, spec, spec.networks)
            failpoint("create.held")
            uid_base = self._lifecycle.uid_base(spec.tenant)
            Snapshots(self._home).prepare(cradle, uid_base, spec.limits.disk_bytes)
            record = Record(state=State.CREATED, created_at=time.time())
            atomic_write(cradle / "spec.json", records.encode_spec(spec))
            atomic_write(cradle / "status.json", records.encode_record(record))
            failpoint("create.prepared")
            os.rename(cradle, self._home.container(spec.id))
            undo.pop_all()
        failpoint("create.renamed")
        self._lifecycle.journal.tell(EventKind.CREATED, spec.id, tenant=spec.tenant, name=spec.name)
        return record
