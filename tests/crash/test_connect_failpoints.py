"""kill -9 at every failpoint of connect and disconnect: the next reconciliation has the container wholly on the network or wholly off it.

Whatever point it is, the container goes on undisturbed, no address, rule or interface is left, what went over the interface stays counted,
and what was done is told once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator

import pytest

from runtime.api import Attachment, NetworkSpec, State
from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.failpoint import CONNECT_POINTS
from runtime.kernel import link
from runtime.network import placement
from tests import programs
from tests.conftest import Place, patience
from tests.kernel.containers import SERVER, fetched, fresh_engine, inside, pour, run, spec
from tests.marks import a_step_like_others, no_cgroup

pytestmark = [pytest.mark.root, no_cgroup]

CONNECT = """
from runtime.api import Attachment
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
networks = NativeEngine(Home.from_environment()).networks
networks.connect("cvictim", Attachment("back", aliases=("db",)))
print("connected")
"""
DISCONNECT = CONNECT.replace('connect("cvictim", Attachment("back", aliases=("db",)))', 'disconnect("cvictim", "back")')
BACK = Attachment("back", aliases=("db",))
RECONCILE = """
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
NativeEngine(Home.from_environment()).reconcile()
"""
SENT = 20_000
IN_EVERY_KERNEL = frozenset({"connect.opened", "disconnect.counted"})
POINTS_OF_CONNECT = (*(point for point in CONNECT_POINTS if point.startswith("connect.")), "networks.followed")
POINTS_OF_DISCONNECT = (*(point for point in CONNECT_POINTS if point.startswith("disconnect.")), "networks.followed")


def marked(points: Iterable[str]) -> list[object]:
    return [point if point in IN_EVERY_KERNEL else pytest.param(point, marks=a_step_like_others) for point in points]


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    with fresh_engine() as made:
        made.networks.create(NetworkSpec("tenant1", "back", ipv6=True))
        run(
            made, spec(made, *SERVER, id="csteady", name="steady", networks=(Attachment("default"), Attachment("back")))
        )
        run(made, spec(made, id="cvictim", name="victim"))
        yield made


def sent(engine: NativeEngine) -> int:
    counted = engine.counters(["cvictim"])["cvictim"].net_tx_bytes
    assert counted is not None
    return counted


def send(engine: NativeEngine) -> None:
    """Over the network that it has come onto."""
    pour(engine, "cvictim", "eth1", engine.networks.inspect("tenant1", "back").gateway, SENT)


def told(engine: NativeEngine) -> list[str]:
    """Of its networks, oldest first."""
    return [one.kind for one in engine.events.read(subject="cvictim") if one.kind.endswith("connected")]


def died_at(point: str, program: str) -> None:
    died = programs.run(program, point)
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"


def made_whole(engine: NativeEngine) -> tuple[NativeEngine, bool]:
    """A new engine over what the crash left, reconciled, and whether the container is on the network."""
    steady, before = engine.inspect("csteady"), engine.inspect("cvictim")
    again = NativeEngine(engine.home)
    found = again.reconcile()
    assert (set(found.adopted), found.failed) == ({"csteady", "cvictim"}, ())
    assert again.inspect("csteady") == steady, "a bystander was disturbed"
    now = again.inspect("cvictim")
    assert (now.pid, now.epoch, now.address) == (before.pid, before.epoch, before.address), "it was disturbed"
    asked = [one.network for one in again.spec("cvictim").networks or (Attachment("default"),)]
    assert [one.network for one in now.networks] == asked
    wholly(again, "back" in asked)
    return again, "back" in asked


def wholly(engine: NativeEngine, on: bool) -> None:
    home = engine.home
    assert link.exists(home.veth("cvictim", 1)) == on
    assert placement.strays(home) == (), "an address is left"
    assert (home.veth("cvictim", 1) in rules(engine)) == on
    table = inside(engine, "cvictim", "cat /etc/resolv.conf /etc/hosts; ip addr")
    assert ("back.slipway.internal" in table) == on
    assert ("eth1" in table) == on
    names = (home.run / "dns" / home.bridge("tenant1", "back") / "hosts" / "cvictim").read_text()
    assert (" db\n" in names) == on
    assert fetched(engine, "cvictim", "steady.default.slipway.internal") == "steady"
    if on:
        for address in engine.inspect("csteady").networks[1].address, engine.inspect("csteady").networks[1].address6:
            assert fetched(engine, "cvictim", address) == "steady"


def rules(engine: NativeEngine) -> str:
    from runtime.kernel import nft

    return str(nft.query(f"list table bridge {engine.home.table}"))


@pytest.mark.parametrize("point", marked(POINTS_OF_CONNECT))
def test_a_kill_in_connect_leaves_it_wholly_on_or_off(engine: NativeEngine, point: str) -> None:
    before = sent(engine)
    died_at(point, CONNECT)
    again, on = made_whole(engine)
    assert on == (point in {"connect.written", "networks.followed"})
    assert told(again) == (["connected"] if on else [])
    assert sent(again) >= before
    assert programs.run(CONNECT).stdout == "connected\n"
    wholly(again, True)
    assert told(again) == ["connected"]
    assert sent(again) >= before


@pytest.mark.parametrize("point", marked(POINTS_OF_DISCONNECT))
def test_a_kill_in_disconnect_finishes_it_and_loses_no_byte(engine: NativeEngine, point: str) -> None:
    engine.networks.connect("cvictim", BACK)
    before = sent(engine)
    send(engine)
    counted = sent(engine)
    assert counted >= before + SENT
    died_at(point, DISCONNECT)
    assert sent(engine) >= counted, "between the crash and the reconciliation"
    again, on = made_whole(engine)
    assert not on
    assert told(again) == ["connected", "disconnected"]
    assert counted <= sent(again) < counted + SENT, "lost, or counted twice"
    assert programs.run(DISCONNECT).stdout == "connected\n"
    assert told(again) == ["connected", "disconnected"]
    stopped = again.stop("cvictim", grace_s=0)
    (final,) = again.final_readings("cvictim")
    assert final.counters.net_tx_bytes is not None
    assert counted <= final.counters.net_tx_bytes < counted + 2 * SENT, "the final reading has all that went"
    assert again.start("cvictim").epoch == stopped.epoch + 1
    assert sent(again) < SENT, "a new start counts from nothing"


def test_a_container_that_ends_after_the_crash_has_all_counted(engine: NativeEngine) -> None:
    engine.networks.connect("cvictim", BACK)
    send(engine)
    counted = sent(engine)
    died_at("disconnect.unlinked", DISCONNECT)
    again = NativeEngine(engine.home)
    again.kill("cvictim")
    again.controls.wait("cvictim", 60)
    (final,) = again.final_readings("cvictim")
    assert final.counters.net_tx_bytes is not None
    assert final.counters.net_tx_bytes >= counted
    assert [one.network for one in again.spec("cvictim").networks] == ["default"]
    assert placement.strays(engine.home) == ()


def cut_short_at(engine: NativeEngine, point: str) -> list[str]:
    """A connect or a disconnect died there.  What is to be told of the container's networks in the end."""
    if point.startswith("connect"):
        died_at(point, CONNECT)
        return ["connected"]
    engine.networks.connect("cvictim", BACK)
    died_at(point, DISCONNECT)
    return ["connected", "disconnected"]


@pytest.mark.parametrize("point", ["connect.written", "disconnect.written"])
def test_a_recovery_that_dies_too_tells_nothing_twice(engine: NativeEngine, point: str) -> None:
    """At its own last step: the next one cannot know by the record what the one before has told."""
    events = cut_short_at(engine, point)
    died_at("networks.followed", RECONCILE)
    again, _ = made_whole(engine)
    assert told(again) == events
    assert again.reconcile().adopted == ("csteady", "cvictim")
    assert told(again) == events


@pytest.mark.parametrize("point", ["connect.written", "disconnect.written"])
def test_what_ends_before_anybody_finishes_it_has_it_told_before_its_end(engine: NativeEngine, point: str) -> None:
    events = cut_short_at(engine, point)
    pid = engine.inspect("cvictim").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    again = NativeEngine(engine.home)
    assert again.controls.wait("cvictim", patience(60)).state is State.EXITED
    assert told(again) == events
    assert [one.kind for one in again.events.read(subject="cvictim")][-2:] == [events[-1], "died"]


def test_every_point_is_passed_by_one_of_the_two() -> None:
    print(f"{len(CONNECT_POINTS)} failpoints of connect and disconnect")
    assert set(POINTS_OF_CONNECT) | set(POINTS_OF_DISCONNECT) == set(CONNECT_POINTS)
