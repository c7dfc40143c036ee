"""The verbs of :class:`runtime.api.Engine` on files alone: no process, no kernel, the same contract.

State lies under ``<home>/fake``, so the processes of a test share it.  :mod:`runtime.engines.fake.misbehaviour` makes it slow,
stuck or broken.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import SIGCHLD, SIGCONT, SIGKILL, SIGURG, SIGWINCH
from typing import Literal

from runtime import validation
from runtime.api import (
    Capability,
    ContainerSpec,
    ContainerStatus,
    Counters,
    Credentials,
    EventKind,
    Events,
    ExecSession,
    ExecSpec,
    FinalReading,
    Image,
    IsolationReport,
    Layer,
    LayerMount,
    LogLine,
    NamespaceIds,
    Progress,
    Reconciliation,
    Restarts,
    State,
    Step,
    no_progress,
)
from runtime.engines import restarting
from runtime.engines.fake.attach import FakeAttach, FakeAttachments
from runtime.engines.fake.controls import FakeControls
from runtime.engines.fake.execs import FakeExec
from runtime.engines.fake.files import FakeFiles
from runtime.engines.fake.health import FakeHealth
from runtime.engines.fake.image_service import FakeImageService, names_in
from runtime.engines.fake.misbehaviour import Misbehaviour
from runtime.engines.fake.networks import FakeNetworks
from runtime.engines.fake.restarts import FakeRestarts
from runtime.engines.fake.totals import FakeTotals
from runtime.engines.fake.volumes import FakeVolumes
from runtime.engines.native import records
from runtime.engines.native.records import Record, Records
from runtime.engines.native.retelling import tell_wait
from runtime.errors import Conflict, ImageUnsuitable, InvalidSpec, NotFound
from runtime.home import Home, atomic_write
from runtime.image.recipe import find as find_recipe
from runtime.image.reference import BUILT_IN, Reference
from runtime.kernel.process import boot_id
from runtime.storage.disk import check_fits
from runtime.telemetry.journal import Journal
from runtime.validation_words import check_exec

IGNORED = frozenset({SIGCHLD, SIGCONT, SIGURG, SIGWINCH})
"""Signals that end no program which does not ask for them (signal(7))."""
USERS = frozenset({"root", "nobody"})
"""That every fake image has."""
COMMANDS = frozenset(
    {"sh", "sleep", "echo", "true", "false", "cat", "exit", "nginx", "redis-server", "python3", "start"}
)
"""What every fake image has.  ``true`` and ``false`` end at once; ``exit N`` with N; all others run until they are stopped."""


class FakeEngine:
    name = "fake"
    capabilities = frozenset(Capability)

    def __init__(self, home: Home) -> None:
        # a home beside the real one, and locks on its own disk: no root needed
        self.home = _FakeHome(
            home.root / "fake", home.instance, home.subnets, home.uid_base, home.flat_bridges, home.flows
        )
        self.misbehaviour = Misbehaviour(self.home.state / "misbehaviour.json")
        self._records = Records(self.home)
        self.totals = FakeTotals(self.home.state / "totals", self._cpu_by_tenant)
        self._journal = Journal(self.home.state / "events")
        self.health = FakeHealth(self._records, self._journal, self.home.state / "sick")
        self.attachments = FakeAttachments(self._attach)
        self._starting: set[str] = set()
        self.restarts: Restarts = FakeRestarts(self._records, self._journal, partial(self._start, by_policy=True))
        self._controls = FakeControls(self, self._records)
        self.volumes = FakeVolumes(self.home, self._records, self.misbehaviour)
        self.files = FakeFiles(self.home, self._records, self.misbehaviour, self.add_image)
        self.image_service = FakeImageService(self, self._journal)
        self.networks = FakeNetworks(self, self._records, self._specs)
        for folder in (self.home.containers, self.home.final, self._images):
            folder.mkdir(parents=True, exist_ok=True)

    def _specs(self) -> Iterator[ContainerSpec]:
        for id in self._records.ids():
            with contextlib.suppress(NotFound):
                yield self._records.spec(id)

    @property
    def events(self) -> Events:
        return self._journal

    def tell(self, kind: EventKind, id: str, **data: str | float) -> None:
        spec = self._records.spec(id)
        self._journal.tell(kind, id, tenant=spec.tenant, name=spec.name, data=data)

    @property
    def controls(self) -> FakeControls:
        return self._controls

    # images ----------------------------------------------------------------------------------------------

    @property
    def _images(self) -> Path:
        return self.home.state / "fake-images"

    def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None = None,
        insecure: bool = False,
        confined: bool = False,
        progress: Progress = no_progress,
    ) -> Image:
        """Every name exists, but for what contains ``missing``, ``denied``, ``corrupt`` or ``otherarch``."""
        del credentials, insecure, confined
        parsed = Reference.parse(reference)
        self.misbehaviour.act("pull")
        for number in range(1, 4):
            progress(Step("download", number * 100_000, 300_000, "fake"))
        if "missing" in parsed.repository:
            raise NotFound(
                f"The registry {parsed.registry} has no image {parsed.repository}.",
                hint="Check the name.",
                field="image",
            )
        if "otherarch" in parsed.repository:
            raise ImageUnsuitable("The image is not made for this architecture.", hint="Use another.", field="image")
        image = self.add_image(parsed)
        self._journal.tell(EventKind.PULLED, image.id, name=reference)
        return image

    def build(self, recipe: str, *, progress: Progress = no_progress) -> Image:
        found = find_recipe(recipe)
        self.misbehaviour.act("build")
        progress(Step("build", 100, 100, found.title))
        return self.add_image(found.reference, found.memory_needed)

    def add_image(self, reference: Reference, memory_needed: int = 0) -> Image:
        """Also how a test makes a built-in image at once."""
        content = f"{reference} {memory_needed}".encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        atomic_write(self._images / digest.removeprefix("sha256:"), content)
        return self.image(digest)

    def load(
        self, archive: Path, *, reference: str | None = None, progress: Progress = no_progress
    ) -> tuple[Image, ...]:
        if not archive.exists():
            raise InvalidSpec("The archive is not there.", hint="Check the path.", field="archive")
        progress(Step("verify"))
        saved = names_in(archive) if reference is None else ()
        if saved:
            return tuple(self.add_image(Reference.parse(name)) for name in saved)
        return (self.add_image(Reference.parse(reference or f"{BUILT_IN}/{archive.stem.lower()}")),)

    def image(self, reference: str) -> Image:
        wanted = () if reference.startswith("sha256:") else (
            str(Reference.parse(reference, registry=BUILT_IN)), str(Reference.parse(reference)),
        )  # fmt: skip
        found = next(
            (image for image in self.images() if reference == image.id or set(wanted) & set(image.references)), None
        )
        if found is None:
            raise NotFound(f"The image {reference[:80]!r} is not on this node.", hint="Pull it first.", field="image")
        return found

    def images(self) -> tuple[Image, ...]:
        return tuple(self._image(path) for path in sorted(self._images.iterdir()) if not path.name.startswith("."))

    @staticmethod
    def _image(path: Path) -> Image:
        name, _, needed = path.read_text(encoding="utf-8").rpartition(" ")
        base = "sha256:" + hashlib.sha256(b"base").hexdigest()
        digest = f"sha256:{path.name}"
        return Image(
            id=digest,
            references=(name,),
            architecture="amd64",
            os="linux",
            size=300_000,
            layers=(Layer(base, base, 200_000, "base"), Layer(digest, digest, 100_000, "fake")),
            created="1970-01-01T00:00:00Z",
            config={"Cmd": ["sleep", "infinity"], "Labels": {validation.MEMORY_LABEL: needed}},
        )

    def image_age(self, id: str) -> float:
        """Seconds since it was made."""
        return time.time() - (self._images / id.removeprefix("sha256:")).stat().st_mtime

    def remove_image(self, reference: str) -> None:
        image = self.image(reference)
        user = next((id for id in self._records.ids() if self._records.spec(id).image == image.id), None)
        if user is not None:
            raise Conflict("A container uses the image.", hint="Remove the container first.", container=user)
        (self._images / image.id.removeprefix("sha256:")).unlink()
        self._journal.tell(EventKind.IMAGE_REMOVED, image.id, name=reference)

    # lifecycle -------------------------------------------------------------------------------------------

    def create(self, spec: ContainerSpec, *, progress: Progress = no_progress) -> ContainerStatus:
        validation.check(spec)
        self.misbehaviour.act("create")
        with self.volumes.kept(spec), self.home.lock("all"):
            if self._records.exists(spec.id):
                if records.encode_spec(spec) != records.encode_spec(self._records.spec(spec.id)):
                    raise Conflict("A container with this id exists with another configuration.", field="id")
                return self.inspect(spec.id)
            validation.check_image(spec, self.image(spec.image))
            if any(other.tenant == spec.tenant and other.name == spec.name for other in self.list()):
                raise Conflict(
                    f"The name {spec.name!r} is taken.",
                    hint="Choose another, or remove the other container.",
                    field="name",
                )
            if spec.limits.disk_bytes is not None:
                check_fits(self.home.state, spec.limits.disk_bytes, "limits.disk_bytes")
            self.networks.check(spec)
            progress(Step("create"))
            self.networks.hold(spec)
            self._make(spec)
            self.tell(EventKind.CREATED, spec.id)
        return self.inspect(spec.id)

    def _make(self, spec: ContainerSpec) -> None:
        cradle = self.home.containers / f".new-{spec.id}"
        cradle.mkdir()
        record = Record(state=State.CREATED, created_at=time.time())
        atomic_write(cradle / "spec.json", records.encode_spec(spec))
        atomic_write(cradle / "status.json", records.encode_record(record))
        cradle.rename(self.home.container(spec.id))

    def start(self, id: str, *, progress: Progress = no_progress) -> ContainerStatus:
        return self._start(id, by_policy=False, progress=progress)

    def _start(self, id: str, *, by_policy: bool, progress: Progress = no_progress) -> ContainerStatus:
        spec = self._records.spec(id)
        self.misbehaviour.act("start")
        self._starting.add(id)
        try:
            progress(Step("start"))
        finally:
            self._starting.discard(id)
        with self.home.lock("all"):
            record = self._records.record(id)
            if record.state is State.RUNNING:
                return self.inspect(id)
            command = list(spec.command or ("sleep",))
            if command[0].rsplit("/", 1)[-1] not in COMMANDS:
                raise InvalidSpec(
                    f"The image has no command {command[0]!r}.", hint="Check the command.", field="command"
                )
            place = self.networks.place(spec)
            running = record.moved(
                State.RUNNING, pid=1, boot_id=boot_id(), started_at=time.time(),
                started_boottime_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME), finished_at=None, exit_code=None, ports=place.ports,
                oom_killed=False, oom_kills=0, paused=False, first_limits=None, sizes=(), reason="", address=place.address,
                networks=place.connections, epoch=record.epoch + 1,
                stopped=False, restart_at=None, restarts=record.restarts + 1 if by_policy else 0,
                failures=record.failures if by_policy else 0,
                health="starting" if spec.health and spec.health.kind != "none" else "", health_output="",
            )  # fmt: skip
            self._records.save(id, running)
            self._say(id, f"{' '.join(command)}: started")
            self.tell(EventKind.STARTED, id, epoch=running.epoch, **({"by": "policy"} if by_policy else {}))
        if command[0].rsplit("/", 1)[-1] in {"true", "false", "exit"}:
            code = int(command[1]) if len(command) > 1 else int(command[0].endswith("false"))
            self._end(id, code)
        return self.inspect(id)

    def _say(self, id: str, text: str) -> None:
        with (self.home.container(id) / records.LOG).open("a", encoding="utf-8") as log:
            log.write(f"{_now()} stdout F {text}\n")

    def _end(self, id: str, code: int) -> None:
        with self.home.lock("all"):
            record, spec = self._records.record(id), self._records.spec(id)
            if record.state is not State.RUNNING:
                return
            counters = self._counters(record)
            self._records.store_final(
                FinalReading(
                    container=id, tenant=spec.tenant, epoch=record.epoch, boot_id=record.boot_id, cgroup_inode=1,
                    started_at=record.started_at or 0, finished_at=time.time(), limits=record.first_limits or spec.limits,
                    counters=counters, sizes=record.sizes, started_boottime_ns=record.started_boottime_ns,
                )
            )  # fmt: skip
            self.totals.add(spec.tenant, counters.cpu_ns or 0)
            self.networks.release(id)
            now = time.time()
            past = restarting.Past(
                record.stopped, code, False, now - (record.started_at or now), record.restarts, record.failures
            )
            decision = restarting.decide(spec.restart, past)
            exited = record.moved(
                State.EXITED, pid=None, exit_code=code, finished_at=now, address=None, ports=(), networks=(), failures=decision.failures,
                paused=False, oom_killed=bool(record.oom_kills) and code != 0,
                health="",
                restart_at=None if decision.wait_s is None else now + decision.wait_s,
            )  # fmt: skip
            self._records.save(id, exited)
            self.tell(EventKind.DIED, id, epoch=record.epoch, exit_code=code)
            tell_wait(self._journal, spec, exited, now)

    def stop(self, id: str, *, grace_s: float | None = None, progress: Progress = no_progress) -> ContainerStatus:
        validation.check_grace(grace_s)
        self._records.spec(id)
        self.misbehaviour.act("stop")
        progress(Step("stop"))
        if self._records.record(id).state is State.RUNNING:
            self.tell(EventKind.STOPPED, id)
        self._ask_to_end(id)
        self._end(id, 128 + self._stop_signal(id))
        return self.inspect(id)

    def _stop_signal(self, id: str) -> int:
        return validation.signal_number(self._records.spec(id).stop_signal or "SIGTERM")

    def _ask_to_end(self, id: str) -> None:
        with self.home.lock("all"):
            record = self._records.record(id)
            if record.state in {State.RUNNING, State.EXITED}:
                self._records.save(id, record.moved(record.state, stopped=True, restart_at=None))

    def kill(self, id: str, signal: str = "SIGKILL") -> None:
        number = validation.signal_number(signal)
        paused = self._running(id).paused
        self.misbehaviour.act("kill")
        self.tell(EventKind.KILLED, id, signal=validation.signal_name(number))
        if number in {SIGKILL, self._stop_signal(id)}:
            self._ask_to_end(id)
        if paused and number != SIGKILL:
            return  # it waits for the thaw
        if number not in IGNORED:
            self._end(id, 128 + number)

    def restart(self, id: str, *, grace_s: float | None = None, progress: Progress = no_progress) -> ContainerStatus:
        self.stop(id, grace_s=grace_s, progress=progress)
        return self.start(id, progress=progress)

    def remove(self, id: str, *, force: bool = False, progress: Progress = no_progress) -> None:
        if not self._records.exists(id):
            return
        self.misbehaviour.act("remove")
        try:
            self._records.spec(id)
            running = self._records.record(id).state is State.RUNNING
        except records.Damaged:
            if not force:
                raise
            self.lose(id)
            self.networks.let_go(id)
            return
        if running:
            if not force:
                raise Conflict("The container is running.", hint="Stop it first, or remove it by force.")
            self._end(id, 137)
        progress(Step("remove"))
        self.tell(EventKind.REMOVED, id)
        self.lose(id)
        self.networks.let_go(id)

    def settle(self, id: str) -> ContainerStatus:
        return self.inspect(id)

    # what is ---------------------------------------------------------------------------------------------

    def _running(self, id: str) -> Record:
        record = self._records.record(id)
        if record.state is not State.RUNNING:
            raise Conflict("The container is not running.", hint="Start it first.")
        return record

    def inspect(self, id: str) -> ContainerStatus:
        try:
            return records.status(id, self._records.spec(id), self._records.record(id))
        except records.Damaged as fault:
            return self._records.damaged(id, fault)

    def list(self, *, tenant: str | None = None) -> tuple[ContainerStatus, ...]:
        found = []
        for id in self._records.ids():
            with contextlib.suppress(NotFound):
                found.append(self.inspect(id))
        return tuple(status for status in found if tenant is None or status.tenant == tenant)

    def spec(self, id: str) -> ContainerSpec:
        return self._records.spec(id)

    def exec(self, id: str, spec: ExecSpec) -> ExecSession:
        check_exec(spec)
        records.refuse_paused(self._running(id))
        who = (spec.user or "0").partition(":")[0]
        if not who.isdigit() and who not in USERS:
            raise InvalidSpec(
                f"The image has no user {who!r}.", hint="Give a user of the image, or a number.", field="user"
            )
        if spec.command[0].rsplit("/", 1)[-1] not in COMMANDS:
            raise InvalidSpec(
                f"The image has no command {spec.command[0]!r}.", hint="Check the command.", field="command"
            )
        return FakeExec(spec)

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

    def _attach(self, id: str) -> FakeAttach:
        spec = self._records.spec(id)
        if id not in self._starting:
            self._running(id)
        return FakeAttach(
            self.log_file(id), partial(self._say, id), lambda: self._ended(id),
            takes_input=spec.stdin or spec.terminal, once=spec.stdin_once,
        )  # fmt: skip

    def _ended(self, id: str, epoch: int | None = None) -> bool:
        """``epoch``: that start of it."""
        if not self._records.exists(id):
            return True
        record = self._records.record(id)
        return record.state is not State.RUNNING or epoch not in {None, record.epoch}

    def log_file(self, id: str) -> Path:
        self._records.spec(id)
        return self.home.container(id) / records.LOG

    def isolation(self, id: str) -> IsolationReport:
        record, spec = self._running(id), self._records.spec(id)
        layers = [LayerMount("lower", layer.diff_id, layer.size) for layer in self.image(spec.image).layers]
        return IsolationReport(
            namespaces=tuple(
                NamespaceIds(kind, 4026532000 + n, 4026531000 + n) for n, kind in enumerate(("mnt", "net", "pid"))
            ),
            uid_map=((0, self.home.uid_base, 65536),),
            cgroup=self.home.cgroup(spec.tenant, id),
            cgroup_version=2,
            cgroup_limits={"memory.max": str(spec.limits.memory_bytes), "pids.max": str(spec.limits.pids)},
            layers=(*layers, LayerMount("upper", "", 4096), LayerMount("merged", "", 304_096)),
            capabilities=("CAP_CHOWN",),
            seccomp=True,
            no_new_privileges=True,
            seccomp_mode=2,
            apparmor_missing="The node's kernel has no AppArmor.",
            masked=("/proc/keys",),
            read_only=("/proc/sys",),
            address=record.address or "",
            interface=self.home.veth(id),
            flows=0,
            flows_most=self.home.flows or 2048,
            terminals_most=32,
        )

    # counters --------------------------------------------------------------------------------------------

    @staticmethod
    def _counters(record: Record) -> Counters:
        """A container uses a tenth of a vCPU and writes a little, forever."""
        ran_ns = int((time.time() - (record.started_at or time.time())) * 1e9)
        return Counters(
            at=time.time(),
            boottime_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            cpu_ns=1_000_000 + ran_ns // 10,
            memory_bytes=8 << 20,
            working_set_bytes=6 << 20,
            pids=2,
            throttled_ns=0,
            oom_kills=0,
            block_read_bytes=4096,
            block_write_bytes=ran_ns // 1_000_000,
            net_rx_bytes=ran_ns // 1_000_000,
            net_tx_bytes=ran_ns // 2_000_000,
        )

    def counters(self, ids: Iterable[str] | None = None, *, live: bool = False) -> Mapping[str, Counters]:
        found = {}
        for id in self._records.ids() if ids is None else ids:
            with contextlib.suppress(NotFound, records.Damaged):
                _, record = self._records.both(id)
                if record.state is State.RUNNING:
                    counters = self._counters(record)
                    found[id] = replace(counters, throttled_ns=None, oom_kills=None) if live else counters
        return found

    def _cpu_by_tenant(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for spec, record in self._records.readable():
            if record.state is State.RUNNING:
                found[spec.tenant] = found.get(spec.tenant, 0) + (self._counters(record).cpu_ns or 0)
        return found

    def final_readings(self, id: str | None = None) -> tuple[FinalReading, ...]:
        return self._records.finals(id)

    def acknowledge(self, reading: FinalReading) -> None:
        self._records.forget_final(reading)

    # the node --------------------------------------------------------------------------------------------

    def reconcile(self) -> Reconciliation:
        found = self.list()
        adopted = tuple(status.id for status in found if status.state is State.RUNNING)
        failed = tuple(f"{status.id}: {status.reason}" for status in found if status.state is State.DAMAGED)
        made = [self.restarts.carry_out(id) for id in self.restarts.waiting()]
        return Reconciliation(
            adopted=adopted, failed=failed, restarted=tuple(status.id for status in made if status is not None)
        )

    def teardown(self) -> None:
        for id in self._records.ids():
            self.remove(id, force=True)

    # for tests -------------------------------------------------------------------------------------------

    def lose(self, id: str) -> None:
        """The container vanishes without a trace, as when somebody deletes it behind our back."""
        grave = self.home.containers / f".removed-{id}"
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            self.home.container(id).rename(grave)
            shutil.rmtree(grave)

    def crash(self, id: str, code: int = 139, *, oom: bool = False) -> None:
        """The container's process ends by itself."""
        self._end(id, code)
        if oom:
            record = self._records.record(id)
            self._records.save(id, replace(record, oom_killed=True, oom_kills=1, reason="out of memory"))

    def starve(self, id: str) -> None:
        """The kernel kills a process of it for want of memory; it lives on."""
        record = self._running(id)
        reason = "a process of it was killed: out of memory"
        self._records.save(id, replace(record, oom_kills=record.oom_kills + 1, reason=reason))


def _now() -> str:
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}+00:00"


class _FakeHome(Home):
    """Runs without root: what lies on /run for a real engine lies in the home."""

    __slots__ = ()

    @property
    def run(self) -> Path:
        return self.root / "run"
