"""The stream of events, the same for every engine."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from pathlib import Path

from runtime.api import Engine, Event, EventKind
from runtime.telemetry.journal import Journal
from tests.conformance.test_engine import Make, ended, engine, make, run
from tests.conftest import patience
from tests.marks import no_cgroup, records_only

__all__ = ["engine", "make"]
pytestmark = no_cgroup


def kinds(engine: Engine, id: str) -> list[EventKind]:
    return [event.kind for event in engine.events.read(subject=id)]


def test_a_life_is_told_in_order(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    engine.stop(id, grace_s=0.2)
    engine.stop(id)
    engine.remove(id)
    engine.remove(id)
    told = list(engine.events.read(subject=id))
    assert [event.kind for event in told] == ["created", "started", "stopped", "died", "removed"]
    assert [event.data.get("epoch") for event in told] == [None, 1, None, 1, None]
    assert {(event.tenant, event.name) for event in told} == {("tenant1", id)}
    numbers = [event.number for event in engine.events.read()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert engine.events.last() == numbers[-1]


def test_an_end_is_told_with_its_code(engine: Engine, make: Make) -> None:
    id = run(engine, make(command=("false",)))
    ended(engine, id)
    (died,) = (event for event in engine.events.read(subject=id) if event.kind is EventKind.DIED)
    assert died.data["exit_code"] == 1


def test_a_kill_is_told_with_its_signal(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    engine.kill(id, "KILL")
    ended(engine, id)
    told = {event.kind: event.data for event in engine.events.read(subject=id)}
    assert told[EventKind.KILLED] == {"signal": "SIGKILL"}
    assert told[EventKind.DIED]["exit_code"] == 137


def test_what_is_done_to_a_running_container_is_told(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    engine.controls.pause(id)
    engine.controls.resume(id)
    limits = replace(engine.spec(id).limits, memory_bytes=48 << 20)
    engine.controls.update(id, limits)
    engine.controls.update(id, limits)
    engine.controls.rename(id, "other")
    told = list(engine.events.read(subject=id))[2:]
    assert [event.kind for event in told] == ["paused", "resumed", "updated", "renamed"]
    assert told[-2].data["memory_bytes"] == 48 << 20
    assert (told[-1].name, told[-1].data["before"]) == ("other", id)


@records_only
def test_what_is_asked_for_is_a_part_of_the_stream(engine: Engine, make: Make) -> None:
    first, other = make(), make(tenant="tenant2")
    engine.create(first)
    middle = engine.events.last()
    engine.create(other)
    (last,) = engine.events.read(after=middle)
    assert (last.subject, last.tenant) == (other.id, "tenant2")
    assert [event.subject for event in engine.events.read(tenant="tenant2")] == [other.id]
    assert list(engine.events.read(since=last.at + 0.001)) == []
    assert last not in list(engine.events.read(until=last.at - 0.001))
    assert last in list(engine.events.read(since=last.at, until=last.at))


@records_only
def test_who_follows_gets_what_comes(engine: Engine, make: Make) -> None:
    spec, got = make(), list[Event]()
    enough = threading.Event()

    def follow() -> None:
        stream = engine.events.read(after=engine.events.last(), follow=True, subject=spec.id)
        got.extend(itertools.islice(stream, 2))
        enough.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    time.sleep(0.2)
    engine.create(spec)
    engine.start(spec.id)
    assert enough.wait(patience(10))
    assert [event.kind for event in got] == ["created", "started"]


@records_only
def test_following_ends_in_time(engine: Engine) -> None:
    assert list(engine.events.read(after=engine.events.last(), until=time.time() + 0.3, follow=True)) == []


@records_only
def test_another_engine_over_the_same_home_reads_the_same(engine: Engine, make: Make) -> None:
    spec = make()
    engine.create(spec)
    again = Journal(Path(engine.home.state) / "events")  # type: ignore[attr-defined]
    assert list(again.read()) == list(engine.events.read())
