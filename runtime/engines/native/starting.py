"""Start: the way from disk into the kernel.

Reserve address and ports, mount the snapshot and the volumes, write the bundle, conmon + create (the network's rules meanwhile),
attach the network, start.  A failure undoes in reverse; a crash leaves ``starting`` set, and recovery finishes or undoes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import logs
from runtime.api import ContainerSpec, EventKind, Image, Progress, State, Step
from runtime.engines.native import (
    apparmor,
    bundle,
    epochs,
    etc,
    mount_places,
    oci,
    options,
    passwd,
    program,
    seccomp,
    supervisor,
)
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Record
from runtime.engines.native.turns import Turns
from runtime.errors import EngineFault, LimitExceeded, RuntimeFault
from runtime.home import Home
from runtime.kernel import cgroup, idmap, ipc, tables
from runtime.kernel.process import boot_id, boottime_ns, start_time
from runtime.storage.snapshot import Snapshots
from runtime.telemetry import log

if TYPE_CHECKING:
    from runtime.engines.native.lifecycle import Lifecycle
    from runtime.image.store import ImageStore
    from runtime.network.endpoint import Endpoint

logger = logs.of(__name__)


class Starting:
    def __init__(self, home: Home, lifecycle: Lifecycle, images: ImageStore) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._images = images
        self._records = lifecycle.records
        self._networks = lifecycle.networks
        self._snapshots = Snapshots(home)
        self._turns = Turns()
        tables.make_room()

    def start(self, spec: ContainerSpec, record: Record, progress: Progress, before: Record) -> Record:
        """As :meth:`Lifecycle.start`."""
        with self._turns.turn():
            try:
                return self._start(spec, record, progress, before)
            except (EngineFault, LimitExceeded):
                self._lifecycle.ceilings.explain(spec.tenant)
                raise

    def _start(self, spec: ContainerSpec, record: Record, progress: Progress, before: Record) -> Record:
        id = spec.id
        image = self._images.image(spec.image)
        runtime = self._lifecycle.runtime
        # what waits for its policy's start goes on waiting should a crash undo this one
        self._records.save(id, record.moved(record.state, starting=True, restart_at=before.restart_at))
        with contextlib.ExitStack() as held, contextlib.ExitStack() as undo:
            undo.callback(self._undo_start, spec, before)
            failpoint("start.marked")
            progress(Step("create"))
            slot = self._networks.tenant(spec.tenant)
            with idmap.soon(slot.uid_base) as mappable:
                endpoint = self._networks.reserve(spec)
                failpoint("start.reserved")
                mappable()
            userns = held.enter_context(idmap.beside(slot.uid_base))
            root = self._snapshots.mount(id, self._images.layer_folders(image), slot.uid_base)
            if spec.volumes:
                self._lifecycle.volumes.attach(spec, slot.uid_base, root)
            failpoint("start.mounted")
            told = epochs.as_annotations(record.epoch + 1, spec.limits)
            owner = self._write_bundle(
                spec, image, root, endpoint, slot.uid_base, userns.path() if userns else None, told
            )
            failpoint("start.bundled")
            cgroup.ensure_parent(f"/{self._home.instance}/{spec.tenant}")
            self._lifecycle.ceilings.apply(spec.tenant)
            with (
                cgroup.moves_expected(),
                supervisor.create(
                    self._home,
                    runtime,
                    spec,
                    log_bytes=log.generation_bytes(spec.limits.log_bytes),
                ) as creation,
            ):
                self._networks.admit(endpoint)
                failpoint("start.creating")
                pid = creation.pid()
            failpoint("start.created")
            self._lifecycle.ceilings.limit_created(spec)
            keep_null_device()
            if not spec.terminal:
                give_output(pid, owner)
            write_ipc_settings(pid, spec, slot.uid_base)
            progress(Step("network"))
            self._networks.attach(endpoint, pid)
            failpoint("start.attached")
            progress(Step("start"))
            runtime.start(id, pid)
            failpoint("start.started")
            now = (time.time(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))
            running = self._running(spec, record, pid, start_time(pid), endpoint, *now)
            self._records.save(id, running)
            undo.pop_all()
        failpoint("start.saved")
        self._tell_start(spec, running, by_policy=record.restart_at is not None)
        return running

    def _undo_start(self, spec: ContainerSpec, before: Record) -> None:
        """What cannot be undone now stays marked as starting, for recovery; the person is told of the first failure, not of this one."""
        try:
            self._lifecycle.abandon(spec.id, spec.tenant)
        except (RuntimeFault, OSError):
            logger.exception("a start of %s could not be undone; recovery tries again", spec.id)
            return
        with contextlib.suppress(OSError):  # it stays marked as starting
            self._records.save_end(spec.id, before)

    def finish(self, spec: ContainerSpec, record: Record) -> Record:
        """A crash during a start: keep a container that was started, also one that has ended since; undo one that was not.

        The caller holds the lock, and settles what is returned as running without a process.
        """
        id = spec.id
        supervisor.await_creation(self._home, id)
        pid, created_at = supervisor.created(self._home, id)
        endpoint = self._networks.readable(id)
        if pid and endpoint and oci.was_started(self._home.runc, id):
            started = start_time(pid) if self._lifecycle.runtime.status(id) == "running" else None
            by_policy = record.restart_at is not None
            told_ns = None if started is None else boottime_ns(started)
            record = self._running(spec, record, pid, started, endpoint, created_at, told_ns)
            self._records.save_end(id, record)
            self._tell_start(spec, record, by_policy=by_policy)
        else:
            self._lifecycle.abandon(id, spec.tenant)
            record = record.moved(record.state, starting=False)
            self._records.save_end(id, record)
        return record

    def _tell_start(self, spec: ContainerSpec, record: Record, *, by_policy: bool) -> None:
        self._lifecycle.journal.tell(
            EventKind.STARTED, spec.id, tenant=spec.tenant, name=spec.name, at=record.started_at,
            data={"epoch": record.epoch} | ({"by": "policy"} if by_policy else {}),
        )  # fmt: skip

    def _running(
        self,
        spec: ContainerSpec,
        record: Record,
        pid: int,
        pid_started: int | None,
        endpoint: Endpoint,
        at: float,
        at_ns: int | None,
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
            started_boottime_ns=at_ns,
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
            health="starting" if self._lifecycle.check_of(spec) else "",
            health_output="",
        )

    def _inode(self, spec: ContainerSpec) -> int:
        try:
            return cgroup.Cgroup(self._home.cgroup(spec.tenant, spec.id)).inode()
        except FileNotFoundError:
            return 0

    def _write_bundle(
        self,
        spec: ContainerSpec,
        image: Image,
        root: Path,
        endpoint: Endpoint,
        uid_base: int,
        userns: Path | None,
        annotations: Mapping[str, str],
    ) -> int:
        """Returns the host's id of the container's user."""
        folder = self._home.bundle(spec.id)
        places = mount_places.check(root, spec, self._home.volume_mounts(spec.id))
        name = bundle.hostname(spec)
        user = spec.user if spec.user is not None else str(image.config.get("User") or "")
        etc.write(folder, name, endpoint)
        host = bundle.Host(
            root=root,
            folder=folder,
            cgroup=self._home.cgroup(spec.tenant, spec.id),
            uid_base=uid_base,
            userns=userns,
            volumes=self._home.volume_mounts(spec.id),
            cgroup_version=cgroup.version(),
            seccomp=seccomp.profile(frozenset(options.capabilities(spec))),
            open_files=min(bundle.OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
            init=program.init() if spec.init else None,
            ceiling_millis=self._lifecycle.ceilings.of(spec.tenant).cpu_millis,
            apparmor=apparmor.profile()[0],
            annotations=annotations,
        )
        identity = passwd.resolve(root, user)
        configuration = bundle.configuration(spec, image.config, identity, host)
        if options.has_init(spec, bundle.command(spec, image.config)):
            program.check(root, configuration["process"], uid_base, places)
        (folder / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
        return uid_base + identity.uid


def give_output(pid: int, owner: int) -> None:
    """conmon's pipes belong to the host's root, whom the container's user namespace does not have: without this a program
    could write to its output but not open ``/dev/stdout``.  Only pipes are given away: the input may be the host's /dev/null.
    """
    for descriptor in (0, 1, 2):
        path = f"/proc/{pid}/fd/{descriptor}"
        if stat.S_ISFIFO(os.stat(path).st_mode):
            os.chown(path, owner, owner)


def write_ipc_settings(pid: int, spec: ContainerSpec, uid_base: int) -> None:
    """Raises InvalidSpec: the kernel has no such setting, or does not take the value."""
    settings = options.ipc_sysctls(spec)
    if not settings:
        return
    try:
        ipc.write_settings(pid, uid_base, settings)
    except OSError as error:
        if error.filename not in settings:
            raise
        raise oci.refused_setting(error.filename) from error


def keep_null_device() -> None:
    """crun gives the container's streams to its root, also the host's /dev/null: taken back before the program runs."""
    if os.stat(os.devnull).st_uid != 0:
        os.chown(os.devnull, 0, 0)
