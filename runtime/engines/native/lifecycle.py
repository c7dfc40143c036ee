"""Start and settle: the two ways between disk and kernel.

start    reserve address and ports, mount the snapshot and the volumes, write the bundle, conmon + create (the network's rules
         meanwhile), attach the network, start.
         A failure undoes in reverse; a crash leaves ``starting`` set, and recovery finishes or undoes.
settle   read the last counters, store them durably, delete the runtime's container (and so its cgroup), detach, unmount.
         Every step is idempotent and the status is written last, so whoever settles next finishes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import stat
import time
from pathlib import Path
from typing import Any

from runtime.api import ContainerSpec, EventKind, FinalReading, HealthCheck, Image, Progress, State, Step
from runtime.engines import restarting
from runtime.engines.native import (
    apparmor,
    bundle,
    choice,
    etc,
    mount_places,
    oci,
    options,
    passwd,
    program,
    retelling,
    seccomp,
    supervisor,
)
from runtime.engines.native.ceilings import Ceilings
from runtime.engines.native.connecting import Connecting
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Record, Records
from runtime.engines.native.resizing import Resizing
from runtime.engines.native.turns import Turns
from runtime.engines.native.volume_mounts import VolumeMounts
from runtime.errors import NotFound, RuntimeFault
from runtime.home import Home
from runtime.image.healthcheck import of_image
from runtime.image.store import ImageStore
from runtime.kernel import cgroup, idmap
from runtime.kernel.process import boot_id, start_time
from runtime.network.attach import TenantNetworks
from runtime.network.endpoint import Endpoint
from runtime.storage.snapshot import Snapshots
from runtime.telemetry import interfaces, log
from runtime.telemetry.exits import exit_code
from runtime.telemetry.journal import Journal
from runtime.telemetry.sampler import read_once

EXIT_FILE_DEADLINE_S = 5.0
EMPTY_DEADLINE_S = 5.0
POLL_S = 0.002
STARVED = frozenset({128 + signal.SIGKILL, None})
"""Exit codes of what the kernel may have killed for want of memory; None where nobody knows."""

logger = logging.getLogger(__name__)


class Lifecycle:
    def __init__(self, home: Home, images: ImageStore, networks: TenantNetworks) -> None:
        self._home = home
        self._images = images
        self.networks = networks
        self._snapshots = Snapshots(home)
        self._volumes = VolumeMounts(home)
        self.records = Records(home)
        self._turns = Turns()
        self._image_checks: dict[str, HealthCheck | None] = {}
        self.journal = Journal(home.state / "events")
        self.ceilings = Ceilings(home)
        self.resizing = Resizing(home, self.records, self.ceilings, networks)
        self.connecting = Connecting(home, self.records, networks)

    @property
    def runtime(self) -> oci.Runtime:
        return choice.choose(self._home)

    def uid_base(self, tenant: str) -> int:
        """The node's id of root in the tenant's containers."""
        return self.networks.tenant(tenant).uid_base

    def check_of(self, spec: ContainerSpec) -> HealthCheck | None:
        """Its own health check, else its image's; None when there is none."""
        if spec.health is not None:
            return None if spec.health.kind == "none" else spec.health
        if spec.image not in self._image_checks:
            try:
                self._image_checks[spec.image] = of_image(self._images.image(spec.image).config)
            except NotFound:
                return None
        return self._image_checks[spec.image]

    # start -----------------------------------------------------------------------------------------------

    def start(self, spec: ContainerSpec, record: Record, progress: Progress) -> Record:
        """The caller holds the container's lock and knows that it does not run."""
        with self._turns.turn():
            return self._start(spec, record, progress)

    def _start(self, spec: ContainerSpec, record: Record, progress: Progress) -> Record:
        id = spec.id
        image = self._images.image(spec.image)
        self.records.save(id, record.moved(record.state, starting=True))
        with contextlib.ExitStack() as held, contextlib.ExitStack() as undo:
            undo.callback(self._undo_start, spec, record)
            failpoint("start.marked")
            progress(Step("create"))
            endpoint = self.networks.reserve(spec)
            failpoint("start.reserved")
            slot = self.networks.tenant(spec.tenant)
            userns = held.enter_context(idmap.beside(slot.uid_base))
            root = self._snapshots.mount(id, self._images.layer_folders(image), slot.uid_base)
            self._volumes.attach(spec, slot.uid_base, root)
            failpoint("start.mounted")
            owner = self._write_bundle(spec, image, root, endpoint, slot.uid_base, userns.path() if userns else None)
            cgroup.ensure_parent(f"/{self._home.instance}/{spec.tenant}")
            self.ceilings.apply(spec.tenant)
            with (
                cgroup.moves_expected(),
                supervisor.create(
                    self._home,
                    self.runtime,
                    spec,
                    log_bytes=log.generation_bytes(spec.limits.log_bytes),
                ) as creation,
            ):
                self.networks.admit(endpoint)
                failpoint("start.creating")
                pid = creation.pid()
            failpoint("start.created")
            self.ceilings.limit_disk(spec)
            keep_null_device()
            if not spec.terminal:
                give_output(pid, owner)
            progress(Step("network"))
            self.networks.attach(endpoint, pid)
            failpoint("start.attached")
            progress(Step("start"))
            self.runtime.start(id, pid)
            failpoint("start.started")
            running = self._running(spec, record, pid, start_time(pid), endpoint, time.time())
            self.records.save(id, running)
            undo.pop_all()
        failpoint("start.saved")
        self._tell_start(spec, running, by_policy=record.restart_at is not None)
        return running

    def _undo_start(self, spec: ContainerSpec, record: Record) -> None:
        """What cannot be undone now stays marked as starting, for recovery; the person is told of the first failure, not of this one."""
        try:
            self.abandon(spec.id, spec.tenant)
        except (RuntimeFault, OSError):
            logger.exception("a start of %s could not be undone; recovery tries again", spec.id)
            return
        with contextlib.suppress(OSError):  # it stays marked as starting
            self.records.save_end(spec.id, record)

    def finish_start(self, spec: ContainerSpec, record: Record) -> Record:
        """A crash during a start: keep a container that was started, also one that has ended since; undo one that was not.

        The caller holds the lock, and settles what is returned as running without a process.
        """
        id = spec.id
        supervisor.await_creation(self._home, id)
        pid, created_at = supervisor.created(self._home, id)
        endpoint = self.networks.endpoint(id)
        if pid and endpoint and self.runtime.was_started(id):
            started = start_time(pid) if self.runtime.status(id) == "running" else None
            by_policy = record.restart_at is not None
            record = self._running(spec, record, pid, started, endpoint, created_at)
            self.records.save_end(id, record)
            self._tell_start(spec, record, by_policy=by_policy)
        else:
            self.abandon(id, spec.tenant)
            record = record.moved(record.state, starting=False)
            self.records.save_end(id, record)
        return record

    def _tell_start(self, spec: ContainerSpec, record: Record, *, by_policy: bool) -> None:
        self.journal.tell(
            EventKind.STARTED, spec.id, tenant=spec.tenant, name=spec.name, at=record.started_at,
            data={"epoch": record.epoch} | ({"by": "policy"} if by_policy else {}),
        )  # fmt: skip

    def _running(
        self, spec: ContainerSpec, record: Record, pid: int, pid_started: int | None, endpoint: Endpoint, at: float
    ) -> Record:
        """The record of a start that succeeded; its policy's if a restart was waited for.

        A process that has ended by now is settled by whoever looks next.
        """
        return record.moved(
            State.RUNNING,
            starting=False,
            pid=pid,
            pid_started=pid_started,
            boot_id=boot_id(),
            cgroup_inode=self._inode(spec),
            started_at=at,
            finished_at=None,
            exit_code=None,
            oom_killed=False,
            oom_kills=0,
            end_asked=False,
            paused=False,
            first_limits=None,
            sizes=(),
            reason="",
            address=endpoint.address,
            ports=endpoint.ports,
            networks=endpoint.connections,
            epoch=record.epoch + 1,
            restart_at=None,
            restarts=record.restarts + (record.restart_at is not None),
            health="starting" if self.check_of(spec) else "",
            health_output="",
        )

    def _inode(self, spec: ContainerSpec) -> int:
        try:
            return cgroup.Cgroup(self._home.cgroup(spec.tenant, spec.id)).inode()
        except FileNotFoundError:
            return 0

    def _write_bundle(
        self, spec: ContainerSpec, image: Image, root: Path, endpoint: Endpoint, uid_base: int, userns: Path | None
    ) -> int:
        """Returns the host's id of the container's user."""
        folder = self._home.bundle(spec.id)
        mount_places.check(root, spec, self._volumes.folder(spec.id))
        name = bundle.hostname(spec)
        user = spec.user if spec.user is not None else str(image.config.get("User") or "")
        etc.write(folder, name, endpoint)
        host = bundle.Host(
            root=root,
            folder=folder,
            cgroup=self._home.cgroup(spec.tenant, spec.id),
            uid_base=uid_base,
            userns=userns,
            volumes=self._volumes.folder(spec.id),
            cgroup_version=cgroup.version(),
            seccomp=seccomp.profile(frozenset(options.capabilities(spec))),
            open_files=min(bundle.OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
            init=program.init() if spec.init else None,
            ceiling_millis=self.ceilings.of(spec.tenant).cpu_millis,
            apparmor=apparmor.profile()[0],
        )
        identity = passwd.resolve(root, user)
        configuration = bundle.configuration(spec, image.config, identity, host)
        if options.has_init(spec, bundle.command(spec, image.config)):
            program.check(root, configuration["process"], uid_base, certain=not spec.tmpfs)
        (folder / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
        return uid_base + identity.uid

    # settle ----------------------------------------------------------------------------------------------

    def ended(self, record: Record) -> bool:
        """Whether the process of a running container is gone; a reboot counts."""
        if record.pid is None or record.pid_started is None or record.boot_id != boot_id():
            return True
        return start_time(record.pid) != record.pid_started

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
        code = self._await_exit_code(id)
        self._await_empty(spec)
        final = self.records.final(id, record) or self._final_reading(spec, record)
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
        self.records.save_end(id, exited)
        failpoint("settle.saved")
        retelling.tell_end(self.journal, spec, exited)
        retelling.tell_wait(self.journal, spec, exited, time.time())
        supervisor.forget(self._home, id)  # last: until the status is written, the exit code is only there
        return exited

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

    def _await_exit_code(self, id: str) -> int | None:
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

    def _final_reading(self, spec: ContainerSpec, record: Record) -> FinalReading | None:
        """None: the cgroup is gone (a reboot, or it was read and removed before a crash)."""
        counters = read_once(self._home, spec.tenant, spec.id)
        if counters is None:
            return None
        return FinalReading(
            container=spec.id,
            tenant=spec.tenant,
            epoch=record.epoch,
            boot_id=record.boot_id,
            cgroup_inode=record.cgroup_inode,
            started_at=record.started_at or counters.at,
            finished_at=counters.at,
            limits=record.first_limits or spec.limits,
            counters=counters,
            sizes=record.sizes,
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
        self.runtime.forget(id)
        failpoint("release.deleted")
        group.remove()
        self.networks.detach(id)
        interfaces.forget(self._home, id)
        failpoint("release.detached")
        self.unmount(id)

    def unmount(self, id: str) -> None:
        self._snapshots.unmount(id)
        self._volumes.detach(id)

    def mounted(self, id: str) -> bool:
        return self._snapshots.mounted(id) or self._volumes.folder(id).exists()

    def abandon(self, id: str, tenant: str) -> None:
        """Release a container whose exit code nobody will ask for."""
        self.release(id, tenant)
        supervisor.forget(self._home, id)


def give_output(pid: int, owner: int) -> None:
    """conmon's pipes belong to the host's root, whom the container's user namespace does not have: without this a program
    could write to its output but not open ``/dev/stdout``.  Only pipes are given away: the input may be the host's /dev/null.
    """
    for descriptor in (0, 1, 2):
        path = f"/proc/{pid}/fd/{descriptor}"
        if stat.S_ISFIFO(os.stat(path).st_mode):
            os.chown(path, owner, owner)


def keep_null_device() -> None:
    """crun gives the container's streams to its root, also the host's /dev/null: taken back before the program runs."""
    if os.stat(os.devnull).st_uid != 0:
        os.chown(os.devnull, 0, 0)
