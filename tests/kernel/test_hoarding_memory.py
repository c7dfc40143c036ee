"""A container that takes the node's memory by messages in sockets, which no cgroup counts.  The node is said to have little left: nothing here takes much."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import ExecSpec, RestartPolicy, State
from runtime.engines.native import hoarding
from runtime.keeper import Keeper
from runtime.kernel.unread import unread
from tests.conftest import patience
from tests.kernel.containers import kept_until_told
from tests.kernel.scene import MIB, Scene, armed, engine, programs
from tests.marks import no_cgroup

__all__ = ["armed", "engine", "programs"]
pytestmark = [pytest.mark.root, no_cgroup]
MUCH, LITTLE = 96, 24
"""MiB; a container here may have 64."""
SENT = 160
"""Of what TCP and UDP hold so much is taken for counted, as which nothing tells it."""


@pytest.fixture
def little_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hoarding, "SHARE", 1.0)
    monkeypatch.setattr(hoarding, "MOST_BYTES", 2**60)
    monkeypatch.setattr(hoarding, "CALM_S", 0.0)


@contextlib.contextmanager
def holding(scene: Scene, id: str, kind: str, mib: int) -> Iterator[None]:
    scene.arm(id, "unread")
    session = scene.engine.exec(id, ExecSpec(("unread", kind, str(mib))))
    try:
        ready, _, _ = select.select([session.stdout], [], [], patience(30))
        assert ready, "it says nothing"
        assert session.stdout.read(4) == b"full"
        yield
    finally:
        session.close()


@pytest.mark.usefixtures("little_left")
@pytest.mark.parametrize(
    ("kind", "much"),
    [("usersock", MUCH), ("route", MUCH), ("ping", MUCH), ("ring", MUCH), ("udp", SENT), ("tcp", SENT)],
)
def test_who_takes_the_nodes_memory_through_sockets_is_ended_and_nobody_else(
    armed: Scene, kind: str, much: int
) -> None:
    raw = ("NET_RAW",) if kind == "ring" else ()
    neighbour, stranger = armed.run(capabilities_add=raw), armed.run(tenant="tenant2")
    hoarder = armed.run(restart=RestartPolicy("always"), capabilities_add=raw)
    pin = armed.engine.home.netns(hoarder)
    told: list[str] = []
    keeper = Keeper(armed.engine, lambda status: told.append(f"{status.id} {status.reason}"))
    with holding(armed, neighbour, kind, LITTLE), holding(armed, hoarder, kind, much):
        waiting = unread(pin)
        assert waiting.uncounted + waiting.mixed >= much * MIB * 0.9, (
            "data may go that was on its way when the program looked"
        )
        charged = armed.engine.counters([hoarder])[hoarder].memory_bytes
        assert charged is not None
        assert charged < MUCH * MIB / 4, "it is charged for none of it: where the kernel does, this watch has no use"
        kept_until_told(keeper, told, 30)
        assert armed.engine.guard_memory() is None
        assert armed.engine.inspect(neighbour).state is State.RUNNING
    assert told == [f"{hoarder} {hoarding.HOARDED}"]
    status = armed.engine.inspect(hoarder)
    assert (status.state, status.reason, status.restart_at) == (State.EXITED, hoarding.HOARDED, None)
    assert armed.alive(neighbour, stranger)


@pytest.mark.usefixtures("little_left")
def test_who_holds_less_than_its_limit_goes_on(armed: Scene) -> None:
    id = armed.run()
    with holding(armed, id, "route", LITTLE):
        assert armed.engine._hoarding._hoards()[id].held >= LITTLE * MIB
        assert armed.engine.guard_memory() is None
    assert armed.engine.inspect(id).state is State.RUNNING


def test_nobody_is_looked_at_while_the_node_has_memory(armed: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hoarding, "SHARE", 0.0)
    looked: list[Path] = []
    monkeypatch.setattr(hoarding, "unread", lambda path: looked.append(path) or 2**40)
    id = armed.run()
    assert [armed.engine.guard_memory() for _ in range(3)] == [None] * 3
    assert not looked
    assert armed.engine.inspect(id).state is State.RUNNING
