"""What the engine keeps of a container on disk: its spec and its status, each replaced in one step.

``Record`` is a status with what only the engine needs.  Transitions that the table does not have raise.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from runtime import logs
from runtime.api import (
    ID_PATTERN,
    Attachment,
    Connection,
    ContainerSpec,
    ContainerStatus,
    Counters,
    FinalReading,
    HealthCheck,
    HealthState,
    Limits,
    Port,
    RestartPolicy,
    Size,
    State,
    Tmpfs,
    Ulimit,
    VolumeMount,
)
from runtime.encoding import encode
from runtime.errors import Conflict, EngineFault, NotFound
from runtime.home import Home, atomic_write, decoding, folders
from runtime.kernel.process import boot_id, start_time
from runtime.storage.reserve import Reserve

TRANSITIONS: dict[State, frozenset[State]] = {
    State.CREATED: frozenset({State.CREATED, State.RUNNING, State.REMOVING}),
    State.RUNNING: frozenset({State.RUNNING, State.EXITED}),
    State.EXITED: frozenset({State.EXITED, State.RUNNING, State.REMOVING}),
    State.REMOVING: frozenset({State.REMOVING}),
    State.DAMAGED: frozenset(),
}


T = TypeVar("T")
ID = re.compile(ID_PATTERN)
UNREADABLE = frozenset({errno.ENOENT, errno.EISDIR, errno.EIO, errno.EUCLEAN})
"""How the kernel says that a file which must be there is not, or that its disk has lost it."""


class Damaged(EngineFault):
    """What a container's file says makes no sense."""

    def __init__(self) -> None:
        super().__init__(
            "The container's files on the node are damaged.",
            hint="Remove it by force, and launch a new one. Volumes are not touched.",
        )


logger = logs.of(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    state: State
    created_at: float
    pid: int | None = None
    pid_started: int | None = None
    """With ``pid`` it names the first process for good: clock ticks since boot."""
    starting: bool = False
    """A start was begun and not finished; recovery finishes or undoes it."""
    boot_id: str = ""
    cgroup_inode: int = 0
    started_at: float | None = None
    started_boottime_ns: int | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    reason: str = ""
    address: str | None = None
    ports: tuple[Port, ...] = ()
    epoch: int = 0
    stopped: bool = False
    """Somebody asked for its end, so no restart policy starts it again."""
    restart_at: float | None = None
    """While a start is on its way, too, so that a crash in it loses no restart."""
    restarts: int = 0
    failures: int = 0
    """Starts in a row that did not last: how long the next wait is."""
    paused: bool = False
    """The freezer's word counts; recovery writes it down here."""
    oom_kills: int = 0
    end_asked: bool = False
    """Somebody had it ended after those kills: they are not what ended it."""
    first_limits: Limits | None = None
    """Of this epoch, once they were changed."""
    sizes: tuple[Size, ...] = ()
    updating: Size | None = None
    """A change of the limits was begun; it is done once the spec has them, and recovery finishes or undoes it."""
    health: HealthState = ""
    health_output: str = ""
    networks: tuple[Connection, ...] = ()

    def moved(self, state: State, **changes: Any) -> Record:
        if state not in TRANSITIONS[self.state]:
            raise EngineFault(f"A container that is {self.state} cannot become {state}.")
        return replace(self, state=state, **changes)


def ended(record: Record) -> bool:
    """Whether the process of a running container is gone; a reboot counts."""
    if record.pid is None or record.pid_started is None or record.boot_id != boot_id():
        return True
    return start_time(record.pid) != record.pid_started


Mark = tuple[tuple[int, int], ...]
"""Inode and time of change of each file that something was read from."""
LOG = "ctr.log"
"""In a container's folder: what it writes, as conmon keeps it."""


class _Known(NamedTuple):
    """What a container's files said; ``mark`` None: when they could not all be seen."""

    mark: Mark | None
    spec: ContainerSpec
    record: Record
    status: ContainerStatus


class Records:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = str(home.containers)
        self._known: dict[str, _Known] = {}
        self.reserve = Reserve(home.state / "reserve")

    def ids(self) -> tuple[str, ...]:
        """Whatever else somebody has put there, as ``lost+found`` of a disk of its own, is no container."""
        return tuple(sorted(folders(self._home.containers, ID)))

    def exists(self, id: str) -> bool:
        """Also damaged: a container's folder comes and goes with all that is in it."""
        return self._home.container(id).is_dir()

    def spec(self, id: str) -> ContainerSpec:
        """Raises NotFound, Damaged; likewise the next two."""
        return _sensible(decode_spec, self._read(id, "spec.json"))

    def name(self, id: str) -> str:
        """For a person; its id where nobody knows its name."""
        try:
            return self.spec(id).name
        except (Damaged, NotFound):
            return id

    def record(self, id: str) -> Record:
        return _sensible(decode_record, self._read(id, "status.json"))

    def both(self, id: str) -> tuple[ContainerSpec, Record]:
        """Read again only when a file was replaced: for whoever asks for all of them every few seconds.  Raises NotFound, Damaged."""
        known = self._look(id)
        return known.spec, known.record

    def _look(self, id: str) -> _Known:
        mark = self._mark(id)
        known = self._known.get(id)
        if known is None or mark is None or known.mark != mark:
            spec, record = self.spec(id), self.record(id)  # which tell what is wrong
            known = self._known[id] = _Known(mark, spec, record, status(id, spec, record))
        return known

    def _mark(self, id: str) -> Mark | None:
        try:
            files = [os.stat(f"{self._folder}/{id}/{name}") for name in ("spec.json", "status.json")]
        except OSError:
            self._known.pop(id, None)
            return None
        return tuple((file.st_ino, file.st_mtime_ns) for file in files)

    def all(self) -> Iterator[tuple[ContainerSpec, Record]]:
        """Raises Damaged: for whoever must overlook none."""
        for id in self._present():
            with contextlib.suppress(NotFound):  # removed in this moment
                yield self.both(id)

    def _present(self) -> tuple[str, ...]:
        """What is known of others is forgotten."""
        ids = self.ids()
        for gone in set(self._known).difference(ids):
            self._known.pop(gone, None)
        return ids

    def readable(self) -> Iterator[tuple[ContainerSpec, Record]]:
        """Without those whose files are damaged, which reconciliation tells of: they hold up nothing of the others."""
        for id in self._present():
            try:
                yield self.both(id)
            except NotFound:
                continue  # removed in this moment
            except (Damaged, OSError):
                logger.warning("the files of %s cannot be read", id, exc_info=True)

    def statuses(self) -> Iterator[ContainerStatus]:
        """Of all, the damaged ones included."""
        for id in self._present():
            try:
                yield self._look(id).status
            except NotFound:
                continue  # removed in this moment
            except Damaged as fault:
                yield self.damaged(id, fault)

    def damaged(self, id: str, fault: Damaged) -> ContainerStatus:
        """What can be said of it still."""
        try:
            spec = self.spec(id)
        except (Damaged, NotFound):
            return ContainerStatus(id, "", id, "", State.DAMAGED, reason=str(fault))
        return ContainerStatus(id, spec.tenant, spec.name, spec.image, State.DAMAGED, reason=str(fault))

    def save_spec(self, spec: ContainerSpec) -> None:
        atomic_write(self._home.container(spec.id) / "spec.json", encode_spec(spec))

    def save(self, id: str, record: Record) -> None:
        atomic_write(self._home.container(id) / "status.json", encode_record(record))

    def save_end(self, id: str, record: Record) -> None:
        """For what must not fail for want of room: an end, an undone start, a removal."""
        self.reserve.write(self._home.container(id) / "status.json", encode_record(record))

    def _read(self, id: str, name: str) -> bytes:
        for _ in range(2):  # it may be removed and made anew in this moment
            try:
                return (self._home.container(id) / name).read_bytes()
            except OSError as error:
                if error.errno not in UNREADABLE:
                    raise
            if not self.exists(id):
                raise NotFound("There is no such container.", hint="It may have been removed.", field="id")
        raise Damaged

    # final readings --------------------------------------------------------------------------------------

    def _final(self, container: str, epoch: int, started_at: float) -> Path:
        return self._home.final / f"{container}-{epoch}-{round(started_at * 1000)}.json"

    def store_final(self, reading: FinalReading) -> None:
        """Once written it is never replaced: a second settle of the same epoch reads fewer counters, not more."""
        self._home.final.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._final(reading.container, reading.epoch, reading.started_at)
        if not path.exists():
            self.reserve.write(path, encode(reading))

    def final(self, id: str, record: Record) -> FinalReading | None:
        """What a settle of this start that a crash cut short has stored; what is damaged is set aside, to be read anew while it can be."""
        path = self._final(id, record.epoch, record.started_at or 0.0)
        try:
            return self._read_final(path)
        except EngineFault:
            logger.exception("the final reading %s cannot be read; it is kept as %s", path.name, _aside(path).name)
            os.replace(path, _aside(path))
            return None

    def finals(self, id: str | None) -> tuple[FinalReading, ...]:
        """Those of settles that are done: until then a repeated settle needs its own, so nobody may have it forgotten."""
        names = sorted(os.listdir(self._home.final)) if self._home.final.is_dir() else []
        wanted = [name for name in names if name[0] != "." and (id is None or name.startswith(f"{id}-"))]
        found = [self._final_or_none(self._home.final / name) for name in wanted]
        return tuple(reading for reading in found if reading is not None and not self._unsettled(reading))

    def _final_or_none(self, path: Path) -> FinalReading | None:
        """One that is damaged stays where it is, is told in the log, and holds up none of the others."""
        try:
            return self._read_final(path)
        except EngineFault:
            logger.exception("the final reading %s cannot be read", path.name)
            return None

    def _read_final(self, path: Path) -> FinalReading | None:
        """Raises EngineFault."""
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None
        with decoding(path):
            reading = _decode_final(content)
            if self._final(reading.container, reading.epoch, reading.started_at) != path:
                raise ValueError("it is another reading's")
            return reading

    def _unsettled(self, reading: FinalReading) -> bool:
        try:
            record = self.record(reading.container)
        except (NotFound, Damaged):  # nobody will settle it any more
            return False
        return record.state is State.RUNNING and record.epoch == reading.epoch

    def forget_final(self, reading: FinalReading) -> None:
        self._final(reading.container, reading.epoch, reading.started_at).unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".damaged-{path.name}")


def _size(fields: dict[str, Any]) -> Size:
    return Size(**{**fields, "limits": Limits(**fields["limits"])})


def _sensible(decode: Callable[[bytes], T], content: bytes) -> T:
    try:
        return decode(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Damaged from None


def _decode_final(content: bytes) -> FinalReading:
    fields = json.loads(content)
    fields["limits"] = Limits(**fields["limits"])
    fields["counters"] = Counters(**fields["counters"])
    fields["sizes"] = tuple(_size(one) for one in fields.get("sizes", ()))
    return FinalReading(**fields)


def decode_record(content: bytes) -> Record:
    fields = json.loads(content)
    fields["state"] = State(fields["state"])
    fields["ports"] = tuple(Port(**port) for port in fields["ports"])
    fields["sizes"] = tuple(_size(one) for one in fields.get("sizes", ()))
    for name, decode in (("first_limits", lambda one: Limits(**one)), ("updating", _size)):
        fields[name] = decode(fields[name]) if fields.get(name) else None
    fields["networks"] = tuple(Connection(**one) for one in fields.get("networks", ()))
    return Record(**fields)


def encode_record(record: Record) -> bytes:
    return encode(record)


def encode_spec(spec: ContainerSpec) -> bytes:
    plain = replace(spec, env=dict(spec.env), labels=dict(spec.labels), sysctls=dict(spec.sysctls))
    return encode(plain, sort_keys=True)


def decode_spec(content: bytes) -> ContainerSpec:
    fields = json.loads(content)
    for name in ("entrypoint", "command"):
        if fields[name] is not None:
            fields[name] = tuple(fields[name])
    fields["limits"] = Limits(**fields["limits"])
    fields["ports"] = tuple(Port(**port) for port in fields["ports"])
    for name, kind in (("ulimits", Ulimit), ("tmpfs", Tmpfs)):
        fields[name] = tuple(kind(**one) for one in fields.get(name, ()))
    if (health := fields.get("health")) is not None:
        fields["health"] = HealthCheck(**(health | {"command": tuple(health["command"])}))
    fields["restart"] = RestartPolicy(**fields.get("restart", {}))
    for name in ("capabilities_add", "capabilities_drop"):
        fields[name] = tuple(fields.get(name, ()))
    fields["volumes"] = tuple(VolumeMount(**volume) for volume in fields.get("volumes", ()))
    fields["networks"] = tuple(_attachment(**one) for one in fields.get("networks", ()))
    return ContainerSpec(**fields)


def _attachment(**fields: Any) -> Attachment:
    made = Attachment(**{**fields, "aliases": tuple(fields["aliases"])})
    for address in (made.address, made.address6):
        if address is not None:
            ip_address(address)  # what is none would be told by whoever sweeps the addresses of all
    return made


def refuse_paused(record: Record) -> None:
    """Raises Conflict."""
    if record.paused:
        raise Conflict("The container is paused.", hint="Resume it first.")


def status(id: str, spec: ContainerSpec, record: Record) -> ContainerStatus:
    return ContainerStatus(
        id=id,
        tenant=spec.tenant,
        name=spec.name,
        image=spec.image,
        state=record.state,
        pid=record.pid,
        created_at=record.created_at,
        started_at=record.started_at,
        started_boottime_ns=record.started_boottime_ns,
        finished_at=record.finished_at,
        exit_code=record.exit_code,
        oom_killed=record.oom_killed,
        reason=record.reason,
        address=record.address,
        ports=record.ports or spec.ports,
        epoch=record.epoch,
        restart_at=record.restart_at,
        restarts=record.restarts,
        health=record.health,
        health_output=record.health_output,
        labels=spec.labels,
        oom_kills=record.oom_kills,
        paused=record.paused,
        limits_at_start=record.first_limits or spec.limits,
        sizes=record.sizes,
        networks=record.networks,
    )
