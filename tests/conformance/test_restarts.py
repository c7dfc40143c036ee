"""Restart policies, the same for every engine: who is started again, who is not, and what is told of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from runtime.api import ContainerStatus, Engine, EventKind, Port, RestartPolicy, State
from runtime.errors import Conflict, InvalidSpec
from runtime.keeper import LONGEST_S, REFRESH_S, Keeper
from tests.conformance.test_engine import Make, ended, engine, make, run
from tests.conftest import patience
from tests.marks import no_cgroup, refused_early

__all__ = ["engine", "make"]
ALWAYS = RestartPolicy("always")


@contextmanager
def keeping(engine: Engine, *noted: ContainerStatus) -> Iterator[list[ContainerStatus]]:
    """Somebody carries out what is due, and has seen these before; yields what has been."""
    seen: list[ContainerStatus] = []
    keeper = Keeper(engine, seen.append)
    for status in noted:
        keeper.note(status)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    try:
        yield seen
    finally:
        keeper.stop()
        thread.join()


def until(true: Callable[[], bool]) -> None:
    """A keeper that nobody tells of an end finds it at its next refresh: here of two, one after the other."""
    deadline = time.monotonic() + patience(3 * REFRESH_S)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_ends_is_started_again_when_it_is_due(engine: Engine, make: Make) -> None:
    id = run(engine, make(restart=ALWAYS))
    engine.kill(id, "SIGUSR1")
    ended(engine, id)
    waiting = engine.inspect(id)
    assert waiting.restart_at is not None
    assert waiting.finished_at is not None
    assert waiting.restart_at > waiting.finished_at
    assert engine.restarts.waiting() == {id: waiting.restart_at}
    until(lambda: time.time() > (waiting.restart_at or 0))
    status = engine.restarts.carry_out(id)
    assert status is not None
    assert (status.state, status.epoch, status.restarts, status.restart_at) == (State.RUNNING, 2, 1, None)
    assert engine.restarts.carry_out(id) is None, "once"
    assert [reading.epoch for reading in engine.final_readings(id)] == [1]
    told = [(event.kind, event.data.get("by")) for event in engine.events.read(subject=id)]
    assert told[-3:] == [(EventKind.DIED, None), (EventKind.RESTARTING, None), (EventKind.STARTED, "policy")]


@no_cgroup
def test_what_is_not_due_yet_waits(engine: Engine, make: Make) -> None:
    id = run(engine, make(restart=ALWAYS, command=("false",)))
    ended(engine, id)
    status = engine.inspect(id)
    while status.restart_at is None or status.restart_at < time.time() + 0.5:
        engine.restarts.carry_out(id)
        ended(engine, id)
        status = engine.inspect(id)
    assert engine.restarts.carry_out(id) is None
    assert engine.inspect(id).state is State.EXITED


@no_cgroup
def test_retries_come_to_an_end(engine: Engine, make: Make) -> None:
    id = run(engine, make(restart=RestartPolicy("on-failure", 2), command=("false",)))
    with keeping(engine):
        until(lambda: engine.settle(id).epoch == 3)
        ended(engine, id)
    status = engine.inspect(id)
    assert (status.restarts, status.restart_at) == (2, None)
    assert len(engine.final_readings(id)) == 3
    assert engine.restarts.waiting() == {}
    assert engine.start(id).restarts == 0, "a person's start begins the count anew"


@no_cgroup
def test_a_success_is_no_failure(engine: Engine, make: Make) -> None:
    id = run(engine, make(restart=RestartPolicy("on-failure"), command=("true",)))
    ended(engine, id)
    assert engine.inspect(id).restart_at is None


@no_cgroup
@pytest.mark.parametrize("how", ["stop", "SIGKILL", "its own signal"])
def test_what_somebody_stopped_stays_stopped(engine: Engine, make: Make, how: str) -> None:
    id = run(engine, make(restart=ALWAYS, stop_signal="SIGUSR2" if how == "its own signal" else None))
    if how == "stop":
        engine.stop(id, grace_s=0.2)
    else:
        engine.kill(id, "SIGKILL" if how == "SIGKILL" else "SIGUSR2")
    ended(engine, id)
    assert engine.inspect(id).restart_at is None
    assert engine.reconcile().restarted == ()
    assert engine.inspect(id).state is State.EXITED


@no_cgroup
def test_a_stop_while_it_waits_is_heeded(engine: Engine, make: Make) -> None:
    id = run(engine, make(restart=ALWAYS, command=("false",)))
    ended(engine, id)
    assert engine.inspect(id).restart_at is not None
    assert engine.stop(id).restart_at is None
    assert engine.restarts.waiting() == {}


@no_cgroup
def test_a_policys_start_that_fails_is_told_and_tried_again(engine: Engine, make: Make) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # until it listens others may
        other.bind(("127.0.0.1", 0))
        id = run(engine, make(restart=ALWAYS, ports=(Port(80, host_port=other.getsockname()[1]),)))
        engine.kill(id, "SIGUSR1")
        ended(engine, id)
        other.listen()
        due = engine.inspect(id).restart_at or 0
        until(lambda: time.time() > due)
        status = engine.restarts.carry_out(id)
    assert status is not None
    assert (status.state, status.epoch, status.restarts) == (State.EXITED, 1, 1)
    assert "taken" in status.reason
    assert (status.restart_at or 0) > due
    told = [event.kind for event in engine.events.read(subject=id)]
    assert told[-2:] == [EventKind.RESTART_FAILED, EventKind.RESTARTING]


@no_cgroup
def test_a_start_that_fails_leaves_its_policys_to_come(engine: Engine, make: Make) -> None:
    """Its port is another's for a moment."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # until it listens others may
        other.bind(("127.0.0.1", 0))
        port = Port(80, host_port=other.getsockname()[1])
        id = run(engine, make(restart=ALWAYS, ports=(port,)))
        engine.kill(id, "SIGUSR1")
        ended(engine, id)
        waiting = engine.restarts.waiting()
        other.listen()
        with pytest.raises(Conflict):
            engine.start(id)
        assert engine.restarts.waiting() == waiting != {}


def test_reconcile_starts_what_is_due(engine: Engine, make: Make) -> None:
    id = run(engine, make(restart=ALWAYS))
    engine.kill(id, "SIGUSR1")
    ended(engine, id)
    until(lambda: time.time() > (engine.inspect(id).restart_at or 0))
    assert engine.reconcile().restarted == (id,)
    assert engine.inspect(id).state is State.RUNNING


def test_who_keeps_tells_what_it_started(engine: Engine, make: Make) -> None:
    id = run(engine, make(restart=ALWAYS))
    with keeping(engine) as seen:
        engine.kill(id, "SIGUSR1")
        ended(engine, id)
        until(lambda: bool(seen))
    assert [(status.id, status.epoch) for status in seen] == [(id, 2)]


@no_cgroup
def test_an_end_does_not_wait_for_the_time_of_an_earlier_one(engine: Engine, make: Make) -> None:
    """Whose wait was long, and ended when somebody started the container."""
    id = run(engine, make(restart=ALWAYS))
    engine.kill(id, "SIGUSR1")
    ended(engine, id)
    with keeping(engine, replace(engine.inspect(id), restart_at=time.time() + LONGEST_S)):
        until(lambda: engine.inspect(id).epoch == 2)


@refused_early
@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (RestartPolicy("sometimes"), "restart.mode"),  # type: ignore[arg-type]
        (RestartPolicy("always", 3), "restart.retries"),
        (RestartPolicy("on-failure", 0), "restart.retries"),
        (RestartPolicy("on-failure", -1), "restart.retries"),
    ],
)
def test_a_policy_that_cannot_be(engine: Engine, make: Make, policy: RestartPolicy, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        engine.create(make(restart=policy))
    assert caught.value.field == field
