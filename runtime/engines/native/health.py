"""Health checks of real containers: a command by exec, or a question at a port from within the container's network."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from runtime.api import (
    ContainerSpec,
    ContainerStatus,
    EventKind,
    ExecSpec,
    Health,
    HealthCheck,
    HealthState,
    Outcome,
    State,
    Watched,
    never,
)
from runtime.engines.native import records
from runtime.engines.native.execs import NativeExec
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.records import Record
from runtime.engines.native.refusals import told
from runtime.errors import Conflict, DeadlineExceeded, InvalidSpec, NotFound
from runtime.home import Home
from runtime.kernel import cgroup
from runtime.kernel.process import Process
from runtime.kernel.ready import readable
from runtime.network import probing

MARK = "HEALTH_CHECK_OF_SLIPWAY"
"""A variable of each check's processes, by which all of them are found, wherever they have hidden in the container."""
KEPT_OUTPUT = 4096
OUTPUT_CHARACTERS = 500
LOOK_S = 0.1
RELAYED_S = 0.25
"""For words of a command that has ended: runc passes them on, and may not have done so yet."""
KILL_S = 2.0
REPORT_LOCK_S = 5.0

Exec = Callable[[str, ExecSpec], NativeExec]


class NativeHealth(Health):
    def __init__(self, home: Home, lifecycle: Lifecycle, execute: Exec) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._records = lifecycle.records
        self._exec = execute

    def watched(self) -> Mapping[str, Watched]:
        found = {}
        for spec, record in self._records.readable():
            if record.state is State.RUNNING and record.health and not record.paused:
                check = self._lifecycle.check_of(spec)
                if check is not None:
                    found[spec.id] = Watched(check, record.epoch, record.started_at or 0.0, record.health)
        return found

    @told()
    def probe(self, id: str, *, given_up: Callable[[], bool] = never) -> Outcome:
        spec, record = self._records.spec(id), self._records.record(id)
        if record.state is not State.RUNNING or self._lifecycle.ended(record):
            raise Conflict("The container is not running.", hint="Start it first.")
        records.refuse_paused(record)
        check = self._lifecycle.check_of(spec)
        if check is None:
            raise InvalidSpec(
                "The container has no health check.", hint="Give it one when it is launched.", field="health"
            )
        patience = probing.Patience(check.timeout_s, given_up)
        try:
            outcome = self._outcome(spec, record, check, patience)
        except FileNotFoundError:  # its network namespace: it has just ended
            return Outcome(False, "the container has ended")
        if not outcome.ok:
            records.refuse_paused(self._records.record(id))
        return outcome

    def _outcome(self, spec: ContainerSpec, record: Record, check: HealthCheck, patience: probing.Patience) -> Outcome:
        netns = self._home.netns(spec.id)
        if check.kind == "tcp":
            return probing.tcp(netns, record.address, check.port or 0, patience)
        if check.kind == "http":
            return probing.http(netns, record.address, check.port or 0, check.path, patience)
        return self._command(spec, check, patience)

    def _command(self, spec: ContainerSpec, check: HealthCheck, patience: probing.Patience) -> Outcome:
        mark = secrets.token_hex(8)
        group = cgroup.Cgroup(self._home.cgroup(spec.tenant, spec.id))
        try:
            session = self._exec(spec.id, ExecSpec(check.command, env={MARK: mark}))
        except (InvalidSpec, DeadlineExceeded) as fault:
            return Outcome(False, fault.message)
        try:
            output = _output(session, patience)
            finished = session.finished()
            end_marked(group, mark)
            code = session.wait(KILL_S) if finished else None
        finally:
            end_marked(group, mark)
            session.close()
        text = output.decode(errors="replace").strip()[-OUTPUT_CHARACTERS:]
        return Outcome(False, f"no answer in time. {text}".strip()) if code is None else Outcome(code == 0, text)

    @told()
    def report(self, id: str, epoch: int, state: HealthState, output: str = "") -> ContainerStatus | None:
        with contextlib.suppress(NotFound), self._home.lock(id, REPORT_LOCK_S):
            spec, record = self._records.spec(id), self._records.record(id)
            if (record.state, record.epoch) != (State.RUNNING, epoch) or record.health == state:
                return None
            record = record.moved(State.RUNNING, health=state, health_output=output[-OUTPUT_CHARACTERS:])
            self._records.save(id, record)
            kind = EventKind.HEALTHY if state == "healthy" else EventKind.UNHEALTHY
            data = {"output": record.health_output} if state == "unhealthy" else None
            self._lifecycle.journal.tell(kind, id, tenant=spec.tenant, name=spec.name, data=data)
            return records.status(id, spec, record)
        return None


def _output(session: NativeExec, patience: probing.Patience) -> bytes:
    """The end of what it says, until it has ended or the time is over; a flood is read away, so that it ends."""
    session.stdin.close()
    streams = [stream.fileno() for stream in (session.stdout, session.stderr) if stream is not None]
    for descriptor in streams:
        os.set_blocking(descriptor, False)
    kept = b""
    while patience.step():
        ended = session.finished()
        if ended and not streams:
            break
        ready = readable(streams, min(RELAYED_S if ended else LOOK_S, patience.step()))
        for descriptor in ready:
            content = os.read(descriptor, 1 << 16)
            kept = (kept + content)[-KEPT_OUTPUT:]
            if not content:
                streams.remove(descriptor)
        if ended and not ready:
            break
        if not streams:
            time.sleep(min(LOOK_S / 10, patience.step()))
    return kept


def end_marked(group: cgroup.Cgroup, mark: str) -> None:
    """SIGKILL for every process of a check, also those that it left in the background or in sessions of their own."""
    deadline = time.monotonic() + KILL_S
    wanted = f"{MARK}={mark}".encode()
    while time.monotonic() < deadline:
        found = [pid for pid in group.procs() if wanted in _environment(pid)]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError), Process(pid) as process:
                if wanted in _environment(pid):
                    process.send(signal.SIGKILL)
                    process.wait(deadline - time.monotonic())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
