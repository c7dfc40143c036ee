"""The facet ``controls`` on this node's kernel; each verb takes the container's lock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from runtime import validation
from runtime.api import ContainerSpec, ContainerStatus, EventKind, Limits, ProcessRow, State, TenantLimits
from runtime.engines.native import processes, records
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.records import Record
from runtime.engines.native.refusals import refuse_unconfined, told
from runtime.engines.native.removal import Removal
from runtime.errors import Conflict, DeadlineExceeded, NotFound
from runtime.home import Home
from runtime.image.store import ImageStore
from runtime.kernel import freezer
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import Process
from runtime.validation_limits import check_tenant

POLL_S = 0.05
Settled = Callable[[str], tuple[ContainerSpec, Record]]
"""Under the lock: what is true now."""

KILLS_EVERY_S = 30.0
"""A look at each of a thousand cgroups costs a moment; whoever inspects one container is told at once."""


class NativeControls:
    """See :class:`runtime.api.Controls`."""

    def __init__(
        self, home: Home, lifecycle: Lifecycle, removal: Removal, images: ImageStore, settled: Settled
    ) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._records = lifecycle.records
        self._removal = removal
        self._images = images
        self._settled = settled
        self._kills_due = 0.0

    # pause -------------------------------------------------------------------------------------------------

    @told()
    def pause(self, id: str) -> ContainerStatus:
        with self._home.lock(id):
            spec, record = self._running(id)
            group = self._group(spec)
            if not record.paused or not freezer.frozen(group):
                try:
                    freezer.freeze(group)
                except FileNotFoundError:
                    refuse_unconfined(group, record.pid or 0)
                    raise not_running() from None
                failpoint("pause.frozen")
                try:
                    record = self._save(id, replace(record, paused=True))
                except BaseException:
                    freezer.thaw(group)
                    raise
                self._tell(EventKind.PAUSED, spec)
            return records.status(id, spec, record)

    @told()
    def resume(self, id: str) -> ContainerStatus:
        with self._home.lock(id):
            spec, record = self._running(id)
            freezer.thaw(self._group(spec))
            failpoint("resume.thawed")
            if record.paused:
                record = self._save(id, replace(record, paused=False))
                self._tell(EventKind.RESUMED, spec)
            return records.status(id, spec, record)

    # limits, name ------------------------------------------------------------------------------------------

    @told()
    def update(self, id: str, limits: Limits) -> ContainerStatus:
        with self._home.lock(id):
            spec, record = self._present(id)
            validation.check_limits(limits)
            validation.check_image(replace(spec, limits=limits), self._images.image(spec.image))
            before = spec.limits
            spec, record = self._lifecycle.resizing.update(spec, record, limits)
            if spec.limits != before:
                self._tell(EventKind.UPDATED, spec, memory_bytes=limits.memory_bytes, cpu_millis=limits.cpu_millis)
            return records.status(id, spec, record)

    @told()
    def rename(self, id: str, name: str) -> ContainerStatus:
        with self._home.lock(id):
            spec, record = self._present(id)
            renamed = replace(spec, name=name)
            if renamed == spec:
                return records.status(id, spec, record)
            validation.check_name(name, "name")
            names = self._removal.names(spec.tenant)
            if not names.take(name, id):
                raise Conflict(
                    f"The name {name!r} is taken.", hint="Choose another, or remove the other container.", field="name"
                )
            failpoint("rename.taken")
            self._records.save_spec(renamed)
            failpoint("rename.written")
            self._lifecycle.networks.rename(id, name)
            names.free(spec.name, id)
            self._tell(EventKind.RENAMED, renamed, before=spec.name)
            return records.status(id, renamed, record)

    # what is -----------------------------------------------------------------------------------------------

    def wait(self, id: str, timeout_s: float) -> ContainerStatus:
        deadline = time.monotonic() + timeout_s
        first = self._records.record(id).epoch
        while True:
            record = self._records.record(id)
            if record.epoch > first or (record.state is not State.RUNNING and not record.starting):
                return records.status(id, self._records.spec(id), record)
            left = deadline - time.monotonic()
            if self._lifecycle.ended(record) or self._ends(record, left):
                self._settle(id)
            elif left <= 0:
                raise DeadlineExceeded(f"The container did not end within {timeout_s:g} seconds.")

    @staticmethod
    def _ends(record: Record, timeout_s: float) -> bool:
        try:
            with Process(record.pid or 0, record.pid_started) as process:
                return process.wait(timeout_s)
        except ProcessLookupError:
            return True

    @told()
    def _settle(self, id: str) -> None:
        with self._home.lock(id, timeout_s=90):
            self._settled(id)
        time.sleep(POLL_S if self._records.record(id).state is State.RUNNING else 0)

    @told()
    def top(self, id: str) -> tuple[ProcessRow, ...]:
        spec, record = self._records.spec(id), self._records.record(id)
        if record.state is not State.RUNNING or self._lifecycle.ended(record):
            raise not_running()
        tenant = self._lifecycle.uid_base(spec.tenant)
        root = self._home.bundle(id) / "merged"
        return processes.rows(Cgroup(self._group(spec)).procs(), tenant, root)

    # tenants -----------------------------------------------------------------------------------------------

    @told()
    def limit_tenant(self, tenant: str, limits: TenantLimits) -> None:
        validation.check_id(tenant, "tenant")
        check_tenant(limits)
        self._lifecycle.ceilings.limit(tenant, limits, self._records)

    def tenant_limits(self, tenant: str) -> TenantLimits:
        validation.check_id(tenant, "tenant")
        return self._lifecycle.ceilings.of(tenant)

    # want of memory ----------------------------------------------------------------------------------------

    def with_kills(self, spec: ContainerSpec, record: Record) -> Record:
        """As the kernel tells it now: the written record is seconds old."""
        kills = (Cgroup(self._group(spec)).oom_kills() or 0) if record.state is State.RUNNING else 0
        if kills <= record.oom_kills:
            return record
        return replace(record, oom_kills=kills, reason="a process of it was killed: out of memory")

    def note_kills(self) -> None:
        """Write down how many processes of each container the kernel has killed for want of memory, each :data:`KILLS_EVERY_S`."""
        if time.monotonic() < self._kills_due:
            return
        self._kills_due = time.monotonic() + KILLS_EVERY_S
        for spec, record in self._records.readable():
            if self.with_kills(spec, record) is not record:
                self._note(spec.id, end_asked=record.end_asked)

    def note_end(self, id: str) -> None:
        """Somebody has it ended: kills until now are not the reason."""
        if self.with_kills(self._records.spec(id), self._records.record(id)).oom_kills:
            self._note(id, end_asked=True)

    def _note(self, id: str, *, end_asked: bool) -> None:
        try:
            with self._home.lock(id, timeout_s=1):
                spec, record = self._records.spec(id), self._records.record(id)
                noted = replace(self.with_kills(spec, record), end_asked=end_asked)
                if record.state is State.RUNNING and noted != record:
                    self._records.save_end(id, noted)  # an end waits for it, also on a full disk
                    if noted.oom_kills > record.oom_kills and not self._lifecycle.ended(
                        record
                    ):  # else its end tells it
                        self._tell(EventKind.OOM, spec, epoch=record.epoch, kills=noted.oom_kills)
        except (DeadlineExceeded, NotFound):
            return  # busy: the next call, or its end, tells it

    # -------------------------------------------------------------------------------------------------------

    def _present(self, id: str) -> tuple[ContainerSpec, Record]:
        spec, record = self._settled(id)
        if record.state is State.REMOVING:
            raise Conflict("The container is being removed.", hint="Launch a new one.")
        return spec, record

    def _running(self, id: str) -> tuple[ContainerSpec, Record]:
        spec, record = self._settled(id)
        if record.state is not State.RUNNING:
            raise not_running()
        return spec, record

    def _group(self, spec: ContainerSpec) -> str:
        return self._home.cgroup(spec.tenant, spec.id)

    def _tell(self, kind: EventKind, spec: ContainerSpec, **data: str | float) -> None:
        self._lifecycle.journal.tell(kind, spec.id, tenant=spec.tenant, name=spec.name, data=data)

    def _save(self, id: str, record: Record) -> Record:
        self._records.save(id, record)
        return record


def not_running() -> Conflict:
    return Conflict("The container is not running.", hint="Start it first.")
