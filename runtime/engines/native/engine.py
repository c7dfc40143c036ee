"""The verbs of :class:`runtime.api.Engine` on this node's kernel: each takes the container's lock, then delegates."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

from runtime import validation
from runtime.api import (
    Attachments,
    Capability,
    ContainerSpec,
    ContainerStatus,
    Counters,
    Credentials,
    EventKind,
    Events,
    ExecSpec,
    FinalReading,
    Health,
    Image,
    IsolationReport,
    LogLine,
    Progress,
    Reconciliation,
    Restarts,
    State,
    Step,
    no_progress,
)
from runtime.engines.native import execs, isolation, passwd, records
from runtime.engines.native.attach import NativeAttachments
from runtime.engines.native.controls import NativeControls
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.files import NativeFiles
from runtime.engines.native.flooding import FLOODED, Flooding
from runtime.engines.native.health import NativeHealth
from runtime.engines.native.image_service import NativeImageService
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.networks import NativeNetworks
from runtime.engines.native.records import Record
from runtime.engines.native.recovery import Recovery
from runtime.engines.native.refusals import told
from runtime.engines.native.removal import CRADLE, Removal
from runtime.engines.native.restarts import NativeRestarts
from runtime.engines.native.totals import NativeTotals
from runtime.engines.native.view import Views
from runtime.engines.native.volumes import NativeVolumes
from runtime.errors import Conflict, DeadlineExceeded, NotFound, RuntimeFault
from runtime.home import Home, atomic_write
from runtime.image.build import build
from runtime.image.recipe import find as find_recipe
from runtime.image.store import ImageStore
from runtime.kernel import cgroup, freezer
from runtime.kernel.process import Process, age_s
from runtime.network.attach import TenantNetworks
from runtime.storage.disk import check_fits
from runtime.storage.snapshot import Snapshots
from runtime.telemetry import log
from runtime.telemetry.sampler import Sampler

KILL_DEADLINE_S = 10.0
RESTARTS_AT_ONCE = 4
THAW_EVERY_S = 1.0
YOUNG_S = 3.0
"""By then a program is ready for signals, or never will be."""
HEARD_EVERY_S = 0.01
SIGKILL = signal.SIGKILL
"""Where a parameter is called signal."""
RUN_FOLDERS = (
    "runc", "conmon", "exits", "netns", "lower", "bundle", "locks", "exec", "bridges", "self-test", "endpoints", "addresses", "ports", "dns", "interfaces",
)  # fmt: skip


logger = logging.getLogger(__name__)


class NativeEngine:
    name = "native"
    capabilities = frozenset(Capability)

    def __init__(self, home: Home) -> None:
        self.home = home
        self.store = ImageStore(home, self._images_in_use)
        self._networks = TenantNetworks(home)
        self._lifecycle = Lifecycle(home, self.store, self._networks)
        self.networks = NativeNetworks(home, self._lifecycle, self._specs, self._settled)
        self._records = self._lifecycle.records
        self._removal = Removal(home, self._lifecycle)
        self.volumes = NativeVolumes(home, self._records)
        views = Views(home, self._lifecycle, self.store, self._networks)
        self.files = NativeFiles(views, self._records, self.store)
        self._recovery = Recovery(home, self._lifecycle, self._removal, self._networks, self.store, self.volumes)
        self._sampler = Sampler(home)
        self._flooding = Flooding(home, self._records)
        self.totals = NativeTotals(home)
        self._journal = self._lifecycle.journal
        self.image_service = NativeImageService(self.store, self._journal)
        self.health: Health = NativeHealth(home, self._lifecycle, self.exec)
        self.attachments: Attachments = NativeAttachments(home, self._lifecycle)
        self.restarts: Restarts = NativeRestarts(home, self._lifecycle, self._settled)
        self._controls = NativeControls(home, self._lifecycle, self._removal, self.store, self._settled)
        for folder in (home.containers, home.final, home.exits, home.runc):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._records.reserve.fill()

    @property
    def events(self) -> Events:
        return self._journal

    def _tell(self, kind: EventKind, spec: ContainerSpec, **data: str | float) -> None:
        self._journal.tell(kind, spec.id, tenant=spec.tenant, name=spec.name, data=data)

    @property
    def controls(self) -> NativeControls:
        return self._controls

    # images ----------------------------------------------------------------------------------------------

    def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None = None,
        insecure: bool = False,
        confined: bool = False,
        progress: Progress = no_progress,
    ) -> Image:
        image = self.store.pull(
            reference, credentials=credentials, insecure=insecure, confined=confined, progress=progress
        )
        self._journal.tell(EventKind.PULLED, image.id, name=reference)
        return image

    def load(
        self, archive: Path, *, reference: str | None = None, progress: Progress = no_progress
    ) -> tuple[Image, ...]:
        images = self.store.load(archive, reference=reference, progress=progress)
        for image in images:
            self._journal.tell(EventKind.LOADED, image.id, name=next(iter(image.references), ""))
        return images

    def build(self, recipe: str, *, progress: Progress = no_progress) -> Image:
        image = build(find_recipe(recipe), self.store, self.home, progress=progress)
        if not self._journal.told(image.id, EventKind.BUILT):  # built earlier: it is only looked up
            self._journal.tell(EventKind.BUILT, image.id, name=recipe)
        return image

    def image(self, reference: str) -> Image:
        return self.store.image(reference)

    def images(self) -> tuple[Image, ...]:
        return self.store.images()

    def remove_image(self, reference: str) -> None:
        id = reference
        with contextlib.suppress(RuntimeFault):  # a damaged image goes, too
            id = self.store.image(reference).id
        self.store.remove(reference, in_use=self._user_of)
        self._journal.tell(EventKind.IMAGE_REMOVED, id, name=reference)

    def _user_of(self, image: str) -> str | None:
        return next((id for id, used in self._images_of_containers() if used == image), None)

    def _images_of_containers(self) -> Iterator[tuple[str, str]]:
        for id in self._records.ids():
            with contextlib.suppress(NotFound):  # removed in this moment
                yield id, self._records.spec(id).image

    def _specs(self) -> Iterator[ContainerSpec]:
        for id in self._records.ids():
            with contextlib.suppress(NotFound):
                yield self._records.spec(id)

    def _images_in_use(self) -> set[str]:
        return {image for _, image in self._images_of_containers()}

    # create, start ---------------------------------------------------------------------------------------

    @told()
    def create(self, spec: ContainerSpec, *, progress: Progress = no_progress) -> ContainerStatus:
        validation.check(spec)
        self._lifecycle.ceilings.check(spec.limits)
        with self.home.lock(spec.id):
            if self._records.exists(spec.id):
                if records.encode_spec(spec) != records.encode_spec(self._records.spec(spec.id)):
                    raise Conflict("A container with this id exists with another configuration.", field="id")
                return self.inspect(spec.id)
            if spec.limits.disk_bytes is not None:
                check_fits(self.home.state, spec.limits.disk_bytes, "limits.disk_bytes")
            # from here to the record nobody may remove the image, a volume or a network
            with self.store.adding(), self.volumes.kept(spec), self._networks.adding():
                self._networks.check(spec)
                image = self.store.image(spec.image)
                validation.check_image(spec, image)
                progress(Step("create"))
                self.store.uses.note(image.id)
                return self._make(spec)

    def _make(self, spec: ContainerSpec) -> ContainerStatus:
        cradle = self.home.containers / f"{CRADLE}{spec.id}"
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
            Snapshots(self.home).prepare(cradle, self._networks.tenant(spec.tenant).uid_base, spec.limits.disk_bytes)
            record = Record(state=State.CREATED, created_at=time.time())
            atomic_write(cradle / "spec.json", records.encode_spec(spec))
            atomic_write(cradle / "status.json", records.encode_record(record))
            failpoint("create.prepared")
            os.rename(cradle, self.home.container(spec.id))
            undo.pop_all()
        failpoint("create.renamed")
        self._tell(EventKind.CREATED, spec)
        return records.status(spec.id, spec, record)

    @told()
    def start(self, id: str, *, progress: Progress = no_progress) -> ContainerStatus:
        with self.home.lock(id, timeout_s=90):
            spec, record = self._settled(id)
            if record.state is State.REMOVING:
                raise Conflict("The container is being removed.", hint="Launch a new one.")
            if record.state is not State.RUNNING:
                anew = record.moved(record.state, stopped=False, restart_at=None, restarts=0, failures=0)
                with self._lifecycle.ceilings.held(spec.tenant):
                    record = self._lifecycle.start(spec, anew, progress)
            return records.status(id, spec, record)

    def _settled(self, id: str) -> tuple[ContainerSpec, Record]:
        """Under the lock: what is true now, with a start that a crash cut short finished or undone, and an unseen exit settled."""
        spec, record = self._records.spec(id), self._records.record(id)
        if record.starting:
            record = self._lifecycle.finish_start(spec, record)
        spec, record = self._lifecycle.resizing.finish(spec, record)
        if record.state is not State.RUNNING:
            return spec, record
        if self._lifecycle.ended(record):
            return spec, self._lifecycle.settle(spec, record)
        try:
            return self._lifecycle.connecting.finish(spec, record)
        except (RuntimeFault, OSError):  # reconciliation tells it; nothing else has to wait for that
            logger.exception("the networks of %s could not be put right", id)
            return spec, record

    # stop, kill, remove ----------------------------------------------------------------------------------

    @told()
    def stop(self, id: str, *, grace_s: float | None = None, progress: Progress = no_progress) -> ContainerStatus:
        spec, record = self._records.spec(id), self._records.record(id)
        if record.starting:
            self.settle(id)  # waits for the start
            record = self._records.record(id)
        record = self._stopped(spec, record)
        if record.state is State.RUNNING and not self._lifecycle.ended(record):
            progress(Step("stop"))
            self._controls.note_end(id)
            self._tell(EventKind.STOPPED, spec)
            self._end(spec, record, self._stop_signal(spec), spec.stop_grace_s if grace_s is None else grace_s)
        return self.settle(id)

    def _stopped(self, spec: ContainerSpec, record: Record) -> Record:
        """Somebody asks for its end: from here on its restart policy lets it be."""
        if spec.restart.mode == "no":
            return record
        with self.home.lock(spec.id, timeout_s=90):
            spec, record = self._settled(spec.id)
            if record.state in {State.RUNNING, State.EXITED}:
                record = record.moved(record.state, stopped=True, restart_at=None)
                self._records.save_end(spec.id, record)
        return record

    def _stop_signal(self, spec: ContainerSpec) -> int:
        return validation.signal_number(spec.stop_signal or self._image_signal(spec) or "SIGTERM")

    def _image_signal(self, spec: ContainerSpec) -> str | None:
        try:
            config = self.store.image(spec.image).config
        except NotFound:
            return None
        return str(config["StopSignal"]) if config.get("StopSignal") else None

    def _end(self, spec: ContainerSpec, record: Record, number: int, grace_s: float) -> None:
        """Signal, wait, SIGKILL, wait.  Raises DeadlineExceeded when even that does not end it (a process stuck in the kernel)."""
        group = self.home.cgroup(spec.tenant, spec.id)
        by = time.monotonic() + grace_s
        try:
            with Process(record.pid or 0, record.pid_started) as process:
                young_s = YOUNG_S - age_s(record.pid_started or 0)
                self._wait_until_heard(process, group, number, min(by, time.monotonic() + young_s))
                process.send(number)
                if self._thawed_until_ended(process, group, by - time.monotonic()):
                    return
                process.send(signal.SIGKILL)
                if not self._thawed_until_ended(process, group, KILL_DEADLINE_S):
                    raise DeadlineExceeded(
                        "The container does not end, even by SIGKILL.", hint="Look at the node's disk."
                    )
        except ProcessLookupError:
            return

    @staticmethod
    def _wait_until_heard(process: Process, group: str, number: int, by: float) -> None:
        """A signal just after the start would be lost, and the whole grace with it."""
        while not process.hears(number) and time.monotonic() < by:
            freezer.thaw(group)
            if process.wait(HEARD_EVERY_S):
                return

    @staticmethod
    def _thawed_until_ended(process: Process, group: str, timeout_s: float) -> bool:
        """Whether it ended; whoever pauses it meanwhile does not keep it."""
        deadline = time.monotonic() + timeout_s
        while True:
            freezer.thaw(group)
            left = deadline - time.monotonic()
            if process.wait(min(left, THAW_EVERY_S)):
                return True
            if left <= 0:
                return False

    @told()
    def kill(self, id: str, signal: str = "SIGKILL") -> None:
        number = validation.signal_number(signal)
        record, spec = self._running(id), self._records.spec(id)
        if number in {SIGKILL, self._stop_signal(spec)}:
            self._stopped(spec, record)
        if number == SIGKILL:
            self._controls.note_end(id)
        try:
            with Process(record.pid or 0, record.pid_started) as process:
                process.send(number)
                if number == SIGKILL:
                    freezer.thaw(self.home.cgroup(self._records.spec(id).tenant, id))
        except ProcessLookupError:
            raise Conflict("The container is not running.", hint="Start it first.") from None
        self._tell(EventKind.KILLED, spec, signal=validation.signal_name(number))

    @told()
    def restart(self, id: str, *, grace_s: float | None = None, progress: Progress = no_progress) -> ContainerStatus:
        self.stop(id, grace_s=grace_s, progress=progress)
        return self.start(id, progress=progress)

    @told()
    def remove(self, id: str, *, force: bool = False, progress: Progress = no_progress) -> None:
        if not self._records.exists(id):
            return
        with self.home.lock(id, timeout_s=90):
            if not self._records.exists(id):
                return
            try:
                spec, record = self._settled(id)
            except records.Damaged:
                if not force:
                    raise
                self._recovery.remove_damaged(id)
                return
            runs = record.state is State.RUNNING
            if runs:
                if not force:
                    raise Conflict("The container is running.", hint="Stop it first, or remove it by force.")
                self._end(spec, record, signal.SIGKILL, KILL_DEADLINE_S)
                record = self._lifecycle.settle(spec, record)
            progress(Step("remove"))
            self._records.save_end(id, record.moved(State.REMOVING))
            failpoint("remove.marked")
            self._removal.finish(spec, again=record.state is State.REMOVING, settled=runs)
        self._records.reserve.fill()
        if spec.image in self.store.references().values():
            self.store.uses.note(spec.image)
        else:
            self.store.gc()  # the container was all that kept it

    @told()
    def settle(self, id: str) -> ContainerStatus:
        with self.home.lock(id, timeout_s=90):
            spec, record = self._settled(id)
            return records.status(id, spec, record)

    # what is ---------------------------------------------------------------------------------------------

    def _running(self, id: str) -> Record:
        record = self._records.record(id)
        if record.state is not State.RUNNING or self._lifecycle.ended(record):
            raise Conflict("The container is not running.", hint="Start it first.")
        return record

    def inspect(self, id: str) -> ContainerStatus:
        try:
            spec, record = self._records.spec(id), self._records.record(id)
        except records.Damaged as fault:
            return self._records.damaged(id, fault)
        return records.status(id, spec, self._controls.with_kills(spec, record))

    def list(self, *, tenant: str | None = None) -> tuple[ContainerStatus, ...]:
        return tuple(one for one in self._records.statuses() if tenant is None or one.tenant == tenant)

    def spec(self, id: str) -> ContainerSpec:
        return self._records.spec(id)

    @told()
    def exec(self, id: str, spec: ExecSpec) -> execs.NativeExec:
        validation.check_exec(spec)
        if self._running(id).paused:
            raise Conflict("The container is paused.", hint="Resume it first.")
        identity = None
        if spec.user:
            identity = passwd.resolve(self.home.bundle(id) / "merged", spec.user)
        group = cgroup.Cgroup(self.home.cgroup(self._records.spec(id).tenant, id))
        process = execs.described(self.home.bundle(id), spec, identity)
        return execs.run(self._lifecycle.runtime, self.home.run / "exec", id, process, spec, group)

    def logs(
        self,
        id: str,
        *,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
        follow: bool = False,
    ) -> Iterator[LogLine]:
        return log.read(
            self.log_file(id),
            wanted=log.Wanted(tail, since, until, stream),
            follow=follow,
            ended=lambda: self._ended(id),
        )

    def _ended(self, id: str) -> bool:
        try:
            return self._lifecycle.drained(id, self._records.record(id))
        except NotFound:
            return True

    def _log(self, id: str) -> Path:
        return self.home.container(id) / "ctr.log"

    def log_file(self, id: str) -> Path:
        self._records.spec(id)
        return self._log(id)

    def upkeep(self) -> None:
        """Called every few seconds by the agent: log generations and events kept, kills for want of memory written down, rules that
        somebody flushed put back.
        """
        self.rotate_logs()
        self._journal.sync()
        self._networks.restore()
        self._controls.note_kills()

    def guard_disk(self) -> ContainerStatus | None:
        """Called each second by a keeper: a container that is about to fill the node's disk is ended, and stays so.  None: there is none."""
        id = self._flooding.found()
        if id is None:
            return None
        self.stop(id, grace_s=0)
        with self.home.lock(id, timeout_s=90):
            spec, record = self._settled(id)
            if record.state is State.EXITED:
                record = record.moved(State.EXITED, stopped=True, restart_at=None, reason=FLOODED)
                self._records.save_end(id, record)
            return records.status(id, spec, record)

    def rotate_logs(self) -> None:
        """Keep the generation of each log that conmon replaces."""
        for id in self._records.ids():
            log.keep_previous(self._log(id))

    def isolation(self, id: str) -> IsolationReport:
        record, spec = self._running(id), self._records.spec(id)
        image = self.store.image(spec.image)
        lowers = self.store.layer_folders(image)
        try:
            return isolation.report(self.home, spec, image, lowers, record.pid or 0, record.address or "")
        except (FileNotFoundError, ProcessLookupError):
            raise Conflict("The container is not running.", hint="Start it first.") from None

    # counters --------------------------------------------------------------------------------------------

    def counters(self, ids: Iterable[str] | None = None, *, live: bool = False) -> Mapping[str, Counters]:
        if ids is None:
            ids = self._records.ids()
            self._sampler.keep_only(ids)
        return self._sampler.read(ids, self._tenant_of_running, live=live)

    def _tenant_of_running(self, id: str) -> str | None:
        try:
            spec, record = self._records.both(id)
        except (NotFound, records.Damaged):
            return None
        return spec.tenant if record.state is State.RUNNING else None

    def final_readings(self, id: str | None = None) -> tuple[FinalReading, ...]:
        return self._records.finals(id)

    def acknowledge(self, reading: FinalReading) -> None:
        self._records.forget_final(reading)

    # the node --------------------------------------------------------------------------------------------

    def reconcile(self) -> Reconciliation:
        found = self._recovery.reconcile()
        self._records.reserve.fill()
        return replace(found, restarted=self._restart_all())

    def _restart_all(self) -> tuple[str, ...]:
        """What is due, as all that ran is after a reboot."""
        with ThreadPoolExecutor(RESTARTS_AT_ONCE) as pool:
            made = tuple(pool.map(self._restart, self.restarts.waiting()))
        return tuple(status.id for status in made if status is not None and status.state is State.RUNNING)

    def _restart(self, id: str) -> ContainerStatus | None:
        try:
            return self.restarts.carry_out(id)
        except RuntimeFault:  # somebody else holds the container
            logger.exception("%s could not be started by its restart policy; the next call tries again", id)
            return None

    def teardown(self) -> None:
        self._recovery.reconcile()
        for id in self._records.ids():
            self.remove(id, force=True)
        self._recovery.sweep(alive=True)
        self._networks.teardown()
        self.totals.keep()
        self._recovery.remove_tenant_cgroups()
        if self.home.run.is_dir():
            for name in RUN_FOLDERS:
                shutil.rmtree(self.home.run / name, ignore_errors=True)
            for name in ("disk", "volumes", ""):  # only when they are empty: people's data was mounted there
                with contextlib.suppress(OSError):
                    (self.home.run / name).rmdir()
