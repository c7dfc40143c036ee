"""Health of containers, the same for every engine."""

from __future__ import annotations

import pytest

from runtime.api import Engine, EventKind, HealthCheck, State
from runtime.errors import Conflict, InvalidSpec
from tests.conformance.test_engine import Make, engine, make, run
from tests.conformance.test_restarts import keeping, until
from tests.marks import no_cgroup, refused_early

__all__ = ["engine", "make"]
pytestmark = no_cgroup
WELL = HealthCheck("command", ("true",), interval_s=1)
SICK = HealthCheck("command", ("false",), interval_s=1, retries=2)


def test_what_is_well_becomes_healthy(engine: Engine, make: Make) -> None:
    id = run(engine, make(health=WELL))
    assert engine.inspect(id).health == "starting"
    assert engine.health.watched()[id].check == WELL
    with keeping(engine) as seen:
        until(lambda: engine.inspect(id).health == "healthy")
        until(lambda: bool(seen))
    assert seen[0].health == "healthy"
    engine.stop(id, grace_s=0.2)
    assert engine.inspect(id).health == ""
    assert engine.health.watched() == {}
    assert [event.kind for event in engine.events.read(subject=id)].count(EventKind.HEALTHY) == 1


def test_what_fails_again_and_again_becomes_unhealthy(engine: Engine, make: Make) -> None:
    id = run(engine, make(health=SICK))
    with keeping(engine):
        until(lambda: engine.inspect(id).health == "unhealthy")
    assert engine.inspect(id).state is State.RUNNING, "it is told, not ended"
    assert EventKind.UNHEALTHY in [event.kind for event in engine.events.read(subject=id)]


def test_a_verdict_is_of_one_start(engine: Engine, make: Make) -> None:
    id = run(engine, make(health=WELL))
    assert engine.health.report(id, 1, "healthy") is not None
    assert engine.health.report(id, 1, "healthy") is None
    engine.restart(id, grace_s=0.2)
    assert engine.inspect(id).health == "starting"
    assert engine.health.report(id, 1, "unhealthy", "late") is None
    assert engine.inspect(id).health == "starting"


@refused_early
def test_what_has_no_check_has_no_health(engine: Engine, make: Make) -> None:
    for spec in (make(), make(health=HealthCheck("none"))):
        id = run(engine, spec)
        assert engine.inspect(id).health == ""
        with pytest.raises(InvalidSpec):
            engine.health.probe(id)
    assert engine.health.watched() == {}


def test_what_is_paused_is_not_asked(engine: Engine, make: Make) -> None:
    id = run(engine, make(health=WELL))
    engine.controls.pause(id)
    assert engine.health.watched() == {}
    with pytest.raises(Conflict):
        engine.health.probe(id)
    engine.controls.resume(id)
    assert engine.health.probe(id).ok
    assert set(engine.health.watched()) == {id}


@refused_early
def test_what_does_not_run_is_not_asked(engine: Engine, make: Make) -> None:
    spec = make(health=WELL)
    engine.create(spec)
    with pytest.raises(Conflict):
        engine.health.probe(spec.id)


@refused_early
@pytest.mark.parametrize(
    ("check", "field"),
    [
        (HealthCheck("dance"), "health.kind"),  # type: ignore[arg-type]
        (HealthCheck("command"), "health.command"),
        (HealthCheck("command", ("a\0b",)), "health.command"),
        (HealthCheck("http"), "health.port"),
        (HealthCheck("tcp", port=65536), "health.port"),
        (HealthCheck("http", port=80, path="x y"), "health.path"),
        (HealthCheck("http", port=80, path="/a\r\nHost: b"), "health.path"),
        (HealthCheck("tcp", port=80, interval_s=0.5), "health.interval_s"),
        (HealthCheck("tcp", port=80, timeout_s=float("nan")), "health.timeout_s"),
        (HealthCheck("tcp", port=80, retries=0), "health.retries"),
        (HealthCheck("tcp", port=80, start_period_s=-1), "health.start_period_s"),
    ],
)
def test_a_check_that_cannot_be(engine: Engine, make: Make, check: HealthCheck, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        engine.create(make(health=check))
    assert caught.value.field == field
    assert engine.list() == ()
