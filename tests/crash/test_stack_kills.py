"""kill -9 of each process of the real stack during launches: everything converges, nothing is lost, doubled or left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from runtime.api import State
from tests.marks import of_the_console
from tests.stack import Session, Stack, stack
from tests.traces import traces

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200), of_the_console]

LAUNCHES = 6
CONVERGED_WITHIN_S = 240.0
ROWS = """
import json
from console.operations.models import Operation
from console.workloads.models import Container
print("ROWS " + json.dumps({
    "open": [[str(one), one.error_message] for one in Operation.objects.filter(state__in=["queued", "running"])],
    "containers": {one.name: [one.id, one.state] for one in Container.objects.exclude(state="removed")},
    "count": Container.objects.exclude(state="removed").count(),
}))
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack() as made:
        made.wait_for_image("busybox")
        yield made


@pytest.fixture
def undisturbed(running: Stack) -> Iterator[None]:
    """A container from before runs on with the same process, whatever is killed."""
    if "steady" not in running.running():
        with running.signed_in("demo") as member:
            _launch(member, "steady")
        _converge(running)
    before = running.running()["steady"]
    yield
    assert running.running()["steady"] == before


def _launch(member: Session, name: str) -> bool:
    """False: the door was shut at that moment, as a browser would see it; the person tries again."""
    try:
        member.launch("recipe:busybox", name, command="sleep 100000")
    except (httpx.HTTPError, LookupError):
        return False
    return True


def _rows(running: Stack) -> dict[str, Any]:
    said = running.manage("shell", "-c", ROWS)
    return dict(json.loads(next(line for line in said.splitlines() if line.startswith("ROWS "))[5:]))


def _converge(running: Stack) -> dict[str, Any]:
    """Until no operation is open; returns the rows."""
    deadline = time.monotonic() + CONVERGED_WITHIN_S
    while (rows := _rows(running))["open"]:
        assert time.monotonic() < deadline, f"still open: {rows['open']}\n{running.tail()}"
        time.sleep(1)
    return rows


def _same_in_database_and_engine(running: Stack, rows: dict[str, Any]) -> None:
    containers = rows["containers"]
    in_rows = {key: state for key, state in containers.values() if state != "failed"}
    in_engine = {one.id: one.state.value for one in running.engine.list() if one.state is not State.REMOVING}
    assert in_rows == in_engine
    assert len(containers) == rows["count"], "two rows have one name"


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("victim", ["worker", "agent", "web", "redis"])
def test_a_killed_process_loses_and_doubles_nothing(running: Stack, victim: str) -> None:
    names = [f"{victim}-{number}" for number in range(LAUNCHES)]
    with running.signed_in("demo") as member:
        for number, name in enumerate(names):
            _launch(member, name)
            if number in (1, 3):
                pid = running.wait_for(victim)
                os.kill(pid, signal.SIGKILL)
                if number == 3:
                    running.wait_for(victim, other_than=pid)
        for name in names:  # what was refused at the door is asked for again, as a person would
            _launch_if_absent(running, member, name)
    rows = _converge(running)
    containers = rows["containers"]
    assert {name: containers[name][1] for name in names} == dict.fromkeys(names, "running")
    _same_in_database_and_engine(running, rows)
    _remove(running, names)


@pytest.mark.usefixtures("undisturbed")
def test_a_hung_redis_holds_no_launch_back_for_good(running: Stack) -> None:
    pid = running.wait_for("redis")
    with running.signed_in("demo") as member:
        os.kill(pid, signal.SIGSTOP)
        try:
            assert _launch(member, "unheard")
            assert _rows(running)["containers"]["unheard"][1] == "pending"
        finally:
            os.kill(pid, signal.SIGCONT)
    rows = _converge(running)
    assert rows["containers"]["unheard"][1] == "running"
    _same_in_database_and_engine(running, rows)
    _remove(running, ["unheard"])


def _launch_if_absent(running: Stack, member: Session, name: str) -> None:
    deadline = time.monotonic() + CONVERGED_WITHIN_S
    while True:
        containers = _rows(running)["containers"]
        if name in containers:
            return
        assert time.monotonic() < deadline, f"{name} cannot be launched:\n{running.tail()}"
        _launch(member, name)
        time.sleep(0.5)


def _remove(running: Stack, names: list[str]) -> None:
    """Through the console; then the kernel has what it had for the steady one alone."""
    containers = _rows(running)["containers"]
    with running.signed_in("demo") as member:
        for name in names:
            member.remove(containers[name][0])
    rows = _converge(running)
    _same_in_database_and_engine(running, rows)
    now = traces(running.home, containers=tuple(containers[name][0] for name in names))
    for name in names:
        key = containers[name][0]
        for kind in ("mounts", "cgroups", "processes"):
            assert not [one for one in getattr(now, kind) if key in one], f"{kind} of {name} left"
        assert running.home.veth(key) not in now.interfaces


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_ended_launcher_leaves_nothing_but_containers_and_they_are_adopted(
    running: Stack, number: signal.Signals
) -> None:
    before = running.running()
    running.end_launcher(number)
    assert running.running() == before, "containers go on while Slipway is away"
    running.up()
    rows = _converge(running)
    assert running.running() == before
    _same_in_database_and_engine(running, rows)


def test_down_beside_a_running_console_is_told_on_its_pages(running: Stack) -> None:
    """Last but one: it takes every container.  What processes said of those killed before it is not of it."""
    before = len(running.output)
    with running.signed_in("demo") as member:
        assert _launch(member, "taken")
    _converge(running)
    assert "taken" in running.running()
    said = running.take_containers_down()
    assert str(running.home.root) in said, "it says where what it keeps is"
    assert running.running() == {}
    rows = _converge(running)
    assert rows["containers"]["taken"][1] != "running"
    assert not [line for line in running.output[before:] if "Traceback" in line]


def test_a_restarted_stack_adopts_what_runs(running: Stack) -> None:
    with running.signed_in("demo") as member:
        _launch(member, "adopted")
    _converge(running)
    before = running.running()
    assert "adopted" in before
    assert running.interrupt() == 0
    assert running.running() == before, "containers go on while Slipway is stopped"
    running.up()
    rows = _converge(running)
    assert running.running() == before
    _same_in_database_and_engine(running, rows)
