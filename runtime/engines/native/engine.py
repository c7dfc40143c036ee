"""The verbs of :class:`runtime.api.Engine` on this node's kernel: each takes the container's lock, then delegates."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runtime import logs
from runtime.api import Capability, EventKind, State, Step, no_progress
from runtime.engines.native import records
from runtime.engines.native.facets import Facets
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Record
from runtime.engines.native.refusals import refuse_unconfined, told
from runtime.errors import Conflict, DeadlineExceeded, EngineFault, InvalidSpec, NotFound, RuntimeFault
from runtime.home import Home
from runtime.image.names import Names
from runtime.image.uses import Uses
from runtime.kernel import freezer
from runtime.kernel.process import Process, age_s

if TYPE_CHECKING:
    from runtime.api import (
        ContainerSpec,
        ContainerStatus,
        Counters,
        Credentials,
        ExecSpec,
        FinalReading,
        Image,
        IsolationReport,
        LogLine,
        Progress,
        Reconciliation,
    )
    from runtime.engines.native.execs import NativeExec

KILL_DEADLINE_S = 10.0
RESTARTS_AT_ONCE = 4
THAW_EVERY_S = 1.0
YOUNG_S = 3.0
"""By then a program is ready for signals, or never will be."""
HEARD_EVERY_S = 0.01
DYING_S = 0.3
SIGKILL = signal.SIGKILL
"""Where a parameter is called signal."""
RUN_FOLDERS = (
    "runc", "conmon", "exits", "netns", "lower", "bundle", "locks", "exec", "bridges", "self-test", "endpoints", "addresses", "ports", "dns", "interfaces",
)  # fmt: skip


logger = logs.of(__name__)


class NativeEngine(Facets):
    name = "native"
    capabilities = frozenset(Capability)

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        for folder in (home.containers, home.final, home.exits, home.runc):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._records.reserve.fill()

    def _tell(self, kind: EventKind, spec: ContainerSpec, **data: str | float) -> None:
        self._journal.tell(kind, spec.id, tenant=spec.tenant, name=spec.name, data=data)

    # images ----------------------------------------------------------------------------------------------

    @told()
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

    @told()
    def load(
        self, archive: Path, *, reference: str | None = None, progress: Progress = no_progress
    ) -> tuple[Image, ...]:
        images = self.store.load(archive, reference=reference, progress=progress)
        for image in images:
            self._journal.tell(EventKind.LOADED, image.id, name=next(iter(image.references), ""))
        return images

    @told()
    def build(self, recipe: str, *, progress: Progress = no_progress) -> Image:
        from runtime.image.build import build
        from runtime.image.recipe import find

        image = build(find(recipe), self.store, self.home, progress=progress)
        if not self._journal.told(image.id, EventKind.BUILT):  # built earlier: it is only looked up
            self._journal.tell(EventKind.BUILT, image.id, name=recipe)
        return image

    def image(self, reference: str) -> Image:
        return self.store.image(reference)

    def images(self) -> tuple[Image, ...]:
        return self.store.images()

    @told()
    def remove_image(self, reference: str) -> None:
        id = reference
        with contextlib.suppress(RuntimeFault):  # a damaged image goes, too
            id = self.store.image(reference).id
        self.store.remove(reference, in_use=self._user_of)
        self._journal.tell(EventKind.IMAGE_REMOVED, id, name=reference)

    def _user_of(self, image: str) -> str | None:
        return next((id for id, used in self._images_of_containers() if used == image), None)

    # create, start ---------------------------------------------------------------------------------------

    @told()
    def create(self, spec: ContainerSpec, *, progress: Progress = no_progress) -> ContainerStatus:
        made, record = self._creation.create(spec, progress)
        return records.status(spec.id, made, record) if record.state is State.CREATED else self.inspect(spec.id)

    @told()
    def start(self, id: str, *, progress: Progress = no_progress) -> ContainerStatus:
        with self.home.lock(id, timeout_s=90):
            spec, record = self._settled(id)
            if record.state is State.REMOVING:
                raise Conflict("The container is being removed.", hint="Launch a new one.")
            if record.state is not State.RUNNING:
                anew = record.moved(record.state, stopped=False, restart_at=None, restarts=0, failures=0)
                with self._lifecycle.ceilings.held(spec.tenant):
                    record = self._lifecycle.start(spec, anew, progress, before=record)
            elif record.stopped:  # by a stop that did not come to its end
                record = record.moved(State.RUNNING, stopped=False)
                self._records.save(id, record)
            return records.status(id, spec, record)

    def _settled(self, id: str) -> tuple[ContainerSpec, Record]:
        """Under the lock: what is true now, with a start that a crash cut short finished or undone, and an unseen exit settled."""
        spec, record = self._records.spec(id), self._records.record(id)
        if record.starting:
            record = self._lifecycle.finish_start(spec, record)
        spec, record = self._lifecycle.finish_update(spec, record)
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
        from runtime.validation import check_grace

        check_grace(grace_s)
        spec, record = self._records.spec(id), self._records.record(id)
        if record.starting:
            self.settle(id)  # waits for the start
            record = self._records.record(id)
        record = self._stopped(spec, record)
        failpoint("stop.noted")
        if record.state is State.RUNNING and not self._lifecycle.ended(record):
            progress(Step("stop"))
            self.controls.note_end(id)
            self._tell(EventKind.STOPPED, spec)
            failpoint("stop.told")
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
        from runtime.validation import signal_number

        if spec.stop_signal:
            return signal_number(spec.stop_signal)
        try:
            return signal_number(self._image_signal(spec) or "SIGTERM")
        except InvalidSpec:  # an image may call it anything, which keeps nobody from ending its containers
            return signal.SIGTERM

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
                self._wait_until_heard(process, record, number, by, lambda: freezer.thaw(group))
                process.send(number)
                failpoint("stop.sent")
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
    def _wait_until_heard(
        process: Process,
        record: Record,
        number: int,
        by: float = math.inf,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """A signal just after the start would be lost, and with a stop's the whole grace."""
        by = min(by, time.monotonic() + YOUNG_S - age_s(record.pid_started or 0))
        while not process.hears(number) and time.monotonic() < by:
            meanwhile()
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
        from runtime.validation import signal_name, signal_number

        number = signal_number(signal)
        record, spec = self._running(id), self._records.spec(id)
        if number in {SIGKILL, self._stop_signal(spec)}:
            self._stopped(spec, record)
        if number == SIGKILL:
            self.controls.note_end(id)
        try:
            with Process(record.pid or 0, record.pid_started) as process:
                self._wait_until_heard(process, record, number)
                process.send(number)
                if number == SIGKILL:
                    freezer.thaw(self.home.cgroup(self._records.spec(id).tenant, id))
        except ProcessLookupError:
            raise Conflict("The container is not running.", hint="Start it first.") from None
        self._tell(EventKind.KILLED, spec, signal=signal_name(number))

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
            image: str | None = None
            try:
                spec, record = self._settled(id)
            except EngineFault:  # it is damaged, or something of it that no removal needs
                if not force:
                    raise
                logger.warning("%s is removed by what others know of it", id, exc_info=True)
                progress(Step("remove"))
                self._damage.remove(id)
            else:
                image = spec.image
                self._remove(spec, record, force, progress)
        self._records.reserve.fill()
        self._let_go(image)

    def _remove(self, spec: ContainerSpec, record: Record, force: bool, progress: Progress) -> None:
        """Under the lock, what is whole."""
        runs = record.state is State.RUNNING
        if runs:
            if not force:
                raise Conflict("The container is running.", hint="Stop it first, or remove it by force.")
            self._end(spec, record, signal.SIGKILL, KILL_DEADLINE_S)
            record = self._lifecycle.settle(spec, record)
        progress(Step("remove"))
        self._records.save_end(spec.id, record.moved(State.REMOVING))
        failpoint("remove.marked")
        self._removal.finish(spec, again=record.state is State.REMOVING, settled=runs)

    def _let_go(self, image: str | None) -> None:
        """A container of it is gone; None: nobody knows of which."""
        try:
            if image is not None and image in Names(self.home).table().values():
                Uses(self.home).note(image)
                return
            self.store.gc()  # the container was all that kept it
        except EngineFault:  # a damaged container or table of names: nobody knows what it keeps
            logger.warning("no image is collected", exc_info=True)

    @told()
    def settle(self, id: str) -> ContainerStatus:
        with self.home.lock(id, timeout_s=90):
            spec, record = self._settled(id)
            return records.status(id, spec, record)

    # what is ---------------------------------------------------------------------------------------------

    def _running(self, id: str) -> Record:
        record = self._records.record(id)
        if record.state is not State.RUNNING or records.ended(record):
            raise Conflict("The container is not running.", hint="Start it first.")
        return record

    def inspect(self, id: str) -> ContainerStatus:
        try:
            spec, record = self._records.spec(id), self._records.record(id)
        except records.Damaged as fault:
            return self._records.damaged(id, fault)
        return records.status(id, spec, self.controls.with_kills(spec, record))

    def list(self, *, tenant: str | None = None) -> tuple[ContainerStatus, ...]:
        return tuple(one for one in self._records.statuses() if tenant is None or one.tenant == tenant)

    def spec(self, id: str) -> ContainerSpec:
        return self._records.spec(id)

    @told()
    def exec(self, id: str, spec: ExecSpec) -> NativeExec:
        from runtime.engines.native import choice, execs, passwd
        from runtime.kernel.cgroup import Cgroup
        from runtime.validation_words import check_exec

        check_exec(spec)
        record = self._running(id)
        records.refuse_paused(record)
        try:
            identity = None
            if spec.user:
                identity = passwd.resolve(self.home.bundle(id) / "merged", spec.user)
            group = Cgroup(self.home.cgroup(self._records.spec(id).tenant, id))
            refuse_unconfined(
                group.path, record.pid or 0
            )  # runc has the command join the first process, wherever that is
            process = execs.described(self.home.bundle(id), spec, identity)
            return execs.run(choice.choose(self.home), self.home.run / "exec", id, process, spec, group)
        except (RuntimeFault, OSError) as error:
            if not isinstance(error, InvalidSpec):
                _await_end(record)
            self._refuse_changed(id, record)
            raise

    def _refuse_changed(self, id: str, before: Record) -> None:
        """What failed did so because the container ended, was paused or started anew meanwhile.  Raises NotFound, Conflict; or because it has
        no cgroup: EngineFault.
        """
        now = self._running(id)
        records.refuse_paused(now)
        if now.epoch != before.epoch:
            raise Conflict("The container's state changed in this moment.", hint="Try again.")
        refuse_unconfined(self.home.cgroup(self._records.spec(id).tenant, id), now.pid or 0)

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
        from runtime.telemetry import log

        epoch = self._records.record(id).epoch if follow else 0
        return log.read(
            self.log_file(id),
            wanted=log.Wanted(tail, since, until, stream),
            follow=follow,
            ended=lambda: self._ended(id, epoch),
        )

    def _ended(self, id: str, epoch: int) -> bool:
        """That start of it, whether or not it was started anew since."""
        try:
            record = self._records.record(id)
            return record.epoch != epoch or self._lifecycle.drained(id, record)
        except NotFound:
            return True

    def _log(self, id: str) -> Path:
        return self.home.container(id) / records.LOG

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
        self.controls.note_kills()

    def guard_disk(self) -> ContainerStatus | None:
        """Called by a keeper each :meth:`disk_pause_s`: a container that is about to fill the node's disk is ended, and stays so.  None: there is
        none.
        """
        from runtime.engines.native.flooding import FLOODED

        return self._end_of(self._flooding.found(), FLOODED)

    def disk_pause_s(self) -> float:
        """Until the next :meth:`guard_disk` is due."""
        return self._flooding.pause_s()

    def guard_memory(self) -> ContainerStatus | None:
        """As :meth:`guard_disk`, each :meth:`memory_pause_s`: for one that takes the node's memory by what no cgroup counts."""
        from runtime.engines.native.hoarding import HOARDED

        return self._end_of(self._hoarding.found(), HOARDED)

    def memory_pause_s(self) -> float:
        """Until the next :meth:`guard_memory` is due."""
        return self._hoarding.pause_s()

    def _end_of(self, id: str | None, reason: str) -> ContainerStatus | None:
        """At once, and for good."""
        if id is None:
            return None
        self.stop(id, grace_s=0)
        with self.home.lock(id, timeout_s=90):
            spec, record = self._settled(id)
            if record.state is State.EXITED:
                record = record.moved(State.EXITED, stopped=True, restart_at=None, reason=reason)
                self._records.save_end(id, record)
            return records.status(id, spec, record)

    def rotate_logs(self) -> None:
        """Keep the generation of each log that conmon replaces."""
        from runtime.telemetry import log

        folder = str(self.home.containers)
        for id in self._records.ids():  # of thousands, as texts: making a path takes as long as the look
            log.keep_previous(f"{folder}/{id}/{records.LOG}")

    def isolation(self, id: str) -> IsolationReport:
        from runtime.engines.native import isolation

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
        from concurrent.futures import ThreadPoolExecutor

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


def _await_end(record: Record) -> None:
    """For a moment: what dies takes nobody in any more, and is not dead yet."""
    with contextlib.suppress(ProcessLookupError), Process(record.pid or 0, record.pid_started) as process:
        process.wait(DYING_S)
