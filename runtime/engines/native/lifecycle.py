"""Settle and release: the way from the kernel back to disk.  The way there is :mod:`runtime.engines.native.starting`.

settle   read the last counters, store them durably, delete the runtime's container (and so its cgroup), detach, unmount.
         Every step is idempotent and the status is written last, so whoever settles next finishes.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.api import FinalReading, State
from runtime.engines import restarting
from runtime.engines.native import choice, oci, records, retelling, supervisor
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.once import once
from runtime.engines.native.records import Record, Records
from runtime.errors import NotFound
from runtime.home import Home
from runtime.kernel import cgroup
from runtime.kernel.process import boot_id, start_time
from runtime.storage.snapshot import Snapshots
from runtime.telemetry import interfaces
from runtime.telemetry.exits import exit_code
from runtime.telemetry.journal import Journal
from runtime.telemetry.sampler import read_once

if TYPE_CHECKING:
    from runtime.api import ContainerSpec, HealthCheck, Limits, Progress
    from runtime.engines.native.ceilings import Ceilings
    from runtime.engines.native.connecting import Connecting
    from runtime.engines.native.resizing import Resizing
    from runtime.engines.native.starting import Starting
    from runtime.engines.native.volume_mounts import VolumeMounts
    from runtime.image.store import ImageStore
    from runtime.network.attach import TenantNetworks

EXIT_FILE_DEADLINE_S = 5.0
EMPTY_DEADLINE_S = 5.0
POLL_S = 0.002
STARVED = frozenset({128 + signal.SIGKILL, None})
"""Exit codes of what the kernel may have killed for want of memory; None where nobody knows."""


class Lifecycle:
    def __init__(
        self,
        home: Home,
        records: Records,
        journal: Journal,
        images: Callable[[], ImageStore],
        networks: TenantNetworks,
    ) -> None:
        self._home = home
        self.records = records
        self.journal = journal
        self._images = images
        self.networks = networks
        self._snapshots = Snapshots(home)
        self._image_checks: dict[str, HealthCheck | None] = {}

    @property
    def runtime(self) -> oci.Runtime:
        return choice.choose(self._home)

    @once
    def _starting(self) -> Starting:
        from runtime.engines.native.starting import Starting

        return Starting(self._home, self, self._images())

    @once
    def ceilings(self) -> Ceilings:
        from runtime.engines.native.ceilings import Ceilings

        return Ceilings(self._home)

    @once
    def resizing(self) -> Resizing:
        from runtime.engines.native.resizing import Resizing

        return Resizing(self._home, self.records, self.ceilings, self.networks)

    def uid_base(self, tenant: str) -> int:
        """The node's id of root in the tenant's containers."""
        return self.networks.tenant(tenant).uid_base

    def check_of(self, spec: ContainerSpec) -> HealthCheck | None:
        """Its own health check, else its image's; None when there is none."""
        if spec.health is not None:
            return None if spec.health.kind == "none" else spec.health
        if spec.image not in self._image_checks:
            from runtime.image.healthcheck import of_image

            try:
                self._image_checks[spec.image] = of_image(self._images().image(spec.image).config)
            except NotFound:
                return None
        return self._image_checks[spec.image]

    @once
    def connecting(self) -> Connecting:
        from runtime.engines.native.connecting import Connecting

        return Connecting(self._home, self.records, self.networks, self.journal)

    @once
    def volumes(self) -> VolumeMounts:
        from runtime.engines.native.volume_mounts import VolumeMounts

        return VolumeMounts(self._home)

    # start -----------------------------------------------------------------------------------------------

    def start(self, spec: ContainerSpec, record: Record, progress: Progress, before: Record | None = None) -> Record:
        """The caller holds the container's lock and knows that it does not run.  A start that fails leaves it as it was ``before``."""
        return self._starting.start(spec, record, progress, before or record)

    def finish_start(self, spec: ContainerSpec, record: Record) -> Record:
        """What a crash cut short; likewise.  As :meth:`Starting.finish`."""
        return self._starting.finish(spec, record)

    def finish_update(self, spec: ContainerSpec, record: Record) -> tuple[ContainerSpec, Record]:
        """Likewise of a change of the limits."""
        return (spec, record) if record.updating is None else self.resizing.finish(spec, record)

    # settle ----------------------------------------------------------------------------------------------

    def ended(self, record: Record) -> bool:
        return records.ended(record)

    def drained(self, id: str, record: Record) -> bool:
        """Whether it has ended and its supervisor has written all of its output."""
        if record.state is not State.RUNNING:
            return True
        if not self.ended(record):
            return False
        return exit_code(self._home.exits, id) is not None or not supervisor.alive(self._home, id)

    def settle(self, spec: ContainerSpec, record: Record) -> Record:
        """The caller holds the lock and knows that the process ended."""
        id = spec.id
        code = self.await_exit_code(id)
        self._await_empty(spec)
        final = self.records.final(id, record) or self.final_reading(spec.tenant, id, record, spec.limits)
        if final is not None:
            self.records.store_final(final)
        failpoint("settle.stored")
        self.release(id, spec.tenant)
        failpoint("settle.released")
        rebooted = record.boot_id != boot_id()
        finished_at = final.finished_at if final else time.time()
        kills = (final.counters.oom_kills if final else None) or record.oom_kills
        starved = code in STARVED and not rebooted
        oom = kills > 0 and starved and (kills > record.oom_kills or not record.end_asked)
        exited = record.moved(
            State.EXITED,
            pid=None,
            pid_started=None,
            starting=False,
            address=None,
            ports=(),
            networks=(),
            finished_at=finished_at,
            health="",
            exit_code=code,
            oom_killed=oom,
            reason="out of memory"
            if oom
            else "a process of it was killed: out of memory"
            if kills and code
            else ""
            if code is not None
            else "the node was restarted"
            if rebooted
            else "supervisor lost",
            **self._next_start(spec, record, code, finished_at, rebooted),
            oom_kills=kills,
            paused=False,
            updating=None,
        )
        self._tell_moves(spec, record)
        self.records.save_end(id, exited)
        failpoint("settle.saved")
        retelling.tell_end(self.journal, spec, exited)
        retelling.tell_wait(self.journal, spec, exited, time.time())
        supervisor.forget(self._home, id)  # last: until the status is written, the exit code is only there
        return exited

    def _tell_moves(self, spec: ContainerSpec, record: Record) -> None:
        """Before its record forgets which networks it had."""
        from runtime.engines.native import moves

        moves.retell(self.journal, spec, record)

    @staticmethod
    def _next_start(
        spec: ContainerSpec, record: Record, code: int | None, finished_at: float, cut_off: bool
    ) -> dict[str, Any]:
        """What the restart policy makes of this end, as fields of the record."""
        ran_s = finished_at - (record.started_at or finished_at)
        past = restarting.Past(record.stopped, code, cut_off, ran_s, record.restarts, record.failures)
        decision = restarting.decide(spec.restart, past)
        at = None if decision.wait_s is None else time.time() + decision.wait_s
        return {"restart_at": at, "failures": decision.failures}

    def await_exit_code(self, id: str) -> int | None:
        """Of a container whose process is gone; a supervisor that does not tell is ended.  None: nobody knows."""
        deadline = time.monotonic() + EXIT_FILE_DEADLINE_S
        while (code := exit_code(self._home.exits, id)) is None:
            if time.monotonic() > deadline:
                supervisor.end(self._home, id)
                return exit_code(self._home.exits, id)
            if not supervisor.alive(self._home, id):
                return exit_code(self._home.exits, id)
            time.sleep(POLL_S)
        return code

    def _await_empty(self, spec: ContainerSpec) -> None:
        """The last counters are final only once the last process has left the cgroup."""
        group = cgroup.Cgroup(self._home.cgroup(spec.tenant, spec.id))
        deadline = time.monotonic() + EMPTY_DEADLINE_S
        while group.populated():
            if time.monotonic() > deadline:
                group.kill()
                return
            time.sleep(POLL_S)

    def final_reading(self, tenant: str, id: str, record: Record, limits: Limits) -> FinalReading | None:
        """``limits``: of the start, if they were not changed since.  None: the cgroup is gone (a reboot, or it was read and removed before a
        crash)."""
        counters = read_once(self._home, tenant, id)
        if counters is None:
            return None
        return FinalReading(
            container=id,
            tenant=tenant,
            epoch=record.epoch,
            boot_id=record.boot_id,
            cgroup_inode=record.cgroup_inode,
            started_at=record.started_at or counters.at,
            finished_at=counters.at,
            limits=record.first_limits or limits,
            counters=counters,
            sizes=record.sizes,
            started_boottime_ns=record.started_boottime_ns,
        )

    # release ---------------------------------------------------------------------------------------------

    def release(self, id: str, tenant: str) -> None:
        """Take away all that a container has in the kernel, in whatever state; its disk stays."""
        group = cgroup.Cgroup(self._home.cgroup(tenant, id))
        if group.populated():
            group.kill()
        pid, _ = supervisor.created(self._home, id)
        if group.populated() or (pid is not None and start_time(pid) is not None):
            self.runtime.delete(id)  # which refuses what still runs, and says why
        oci.forget(self._home.runc, id)
        failpoint("release.deleted")
        group.remove()
        failpoint("release.removed")
        self.networks.detach(id)
        interfaces.forget(self._home, id)
        failpoint("release.detached")
        self.unmount(id)

    def unmount(self, id: str) -> None:
        self._snapshots.unmount(id)
        failpoint("release.unmounted")
        if self._home.volume_mounts(id).is_dir():
            self.volumes.detach(id)

    def mounted(self, id: str) -> bool:
        return self._snapshots.mounted(id) or self._home.volume_mounts(id).exists()

    def abandon(self, id: str, tenant: str) -> None:
        """Release a container whose exit code nobody will ask for."""
        self.release(id, tenant)
        supervisor.forget(self._home, id)
