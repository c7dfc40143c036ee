"""kill -9 wherever a fixed address is taken or given back: it is held by its container, or by nobody once that has it no more."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from runtime.api import Attachment, NetworkSpec, State
from runtime.engines.native.engine import NativeEngine
from runtime.network import holding, placement
from runtime.network.addresses import fixed_claims
from tests import programs
from tests.conftest import Place
from tests.kernel.containers import fresh_engine, run, spec
from tests.marks import no_cgroup

pytestmark = [pytest.mark.root, no_cgroup]

HEAD = """
from runtime.api import Attachment, ContainerSpec, Limits
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
def at(name, number):
    network = engine.networks.inspect("tenant1", name)
    return Attachment(name, f"{network.gateway.rpartition('.')[0]}.{number}", f"{network.gateway6[:-1]}{number}")
spec = ContainerSpec("cvictim", "tenant1", "victim", engine.image("busybox").id, command=("sleep", "100000"),
                     limits=Limits(32 << 20, 500, 32), networks=(at("back", 2), Attachment("default")))
engine.create(spec)
"""
ONWARD = """
engine.networks.connect("cvictim", at("front", 2))
engine.networks.disconnect("cvictim", "back")
"""
END = """
engine.remove("cvictim", force=True)
print("lived")
"""
STILL = HEAD + ONWARD + END
RUNNING = HEAD + 'engine.start("cvictim")' + ONWARD + END
POINTS_OF_ONE_THAT_IS_STILL = (
    "create.claimed", "create.held", "create.prepared", "create.renamed", "connect.held", "connect.written", "disconnect.written",
    "disconnect.freed", "remove.marked", "remove.renamed", "remove.unnamed", "remove.freed",
)  # fmt: skip
POINTS_OF_ONE_THAT_RUNS = (
    "start.marked", "start.reserved", "connect.held", "connect.claimed", "connect.placed", "connect.written", "disconnect.written",
    "disconnect.dropped", "disconnect.freed", "release.freed", "release.detached",
)  # fmt: skip


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    with fresh_engine() as made:
        for name in ("back", "front"):
            made.networks.create(NetworkSpec("tenant1", name, ipv6=True))
        yield made


def held(engine: NativeEngine) -> set[str]:
    return {address for _, owner, address in holding.holdings(engine.home) if owner == "cvictim"}


def given(engine: NativeEngine, network: str) -> set[str]:
    """The addresses that one gets there that asks for none."""
    id = run(engine, spec(engine, networks=(Attachment(network),)))
    (place,) = engine.inspect(id).networks
    engine.remove(id, force=True)
    return {place.address, place.address6}


def died_and_reconciled(engine: NativeEngine, program: str, point: str) -> NativeEngine:
    died = programs.run(program, point)
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"
    again = NativeEngine(engine.home)
    assert again.reconcile().failed == ()
    return again


@pytest.mark.parametrize(
    ("program", "point"),
    [
        *((STILL, point) for point in POINTS_OF_ONE_THAT_IS_STILL),
        *((RUNNING, point) for point in POINTS_OF_ONE_THAT_RUNS),
    ],
    ids=[
        *(f"still-{point}" for point in POINTS_OF_ONE_THAT_IS_STILL),
        *(f"running-{point}" for point in POINTS_OF_ONE_THAT_RUNS),
    ],
)
def test_a_kill_at_any_point_leaves_what_its_container_has(engine: NativeEngine, program: str, point: str) -> None:
    again = died_and_reconciled(engine, program, point)
    here = [one.id for one in again.list()]
    assert here in (["cvictim"], [])
    wanted = set(holding.fixed(again.home, "tenant1", again.spec("cvictim").networks)) if here else set()
    assert held(again) == wanted
    assert placement.strays(again.home) == ()
    for network in ("back", "front"):
        assert not given(again, network) & wanted, "it was given to another"
    if here:
        assert {one.address for one in again.start("cvictim").networks} >= {one for one in wanted if ":" not in one}
        assert again.stop("cvictim", grace_s=0).state is State.EXITED
        assert held(again) == wanted
        again.remove("cvictim")
    assert programs.run(program).stdout == "lived\n"
    assert held(again) == set()
    lowest = {
        str(again.networks.inspect("tenant1", name).gateway.rpartition(".")[0]) + ".2" for name in ("back", "front")
    }
    assert given(again, "back") | given(again, "front") > lowest, "it is free"


@pytest.mark.parametrize("emptied", [False, True])
def test_what_a_power_cut_took_is_held_again(engine: NativeEngine, emptied: bool) -> None:
    """What was not on the disk yet; of a version that wrote files, what was in them."""
    programs.lived(HEAD)
    wanted = held(engine)
    assert len(wanted) == 2
    holding.let_go_of_all(engine.home, "cvictim")
    for address in wanted if emptied else ():
        (fixed_claims(engine.home, "tenant1").folder / address).touch()
    again = NativeEngine(engine.home)
    again.reconcile()
    assert held(again) == wanted


def test_every_point_is_one_of_the_engines() -> None:
    from runtime.engines.native.failpoint import CONNECT_POINTS, POINTS

    mine = {*POINTS_OF_ONE_THAT_IS_STILL, *POINTS_OF_ONE_THAT_RUNS}
    print(f"{len(mine)} failpoints of fixed addresses")
    assert mine <= {*POINTS, *CONNECT_POINTS}


def test_what_was_held_on_a_flat_network_before_claims_had_its_bridge_is_held_anew(engine: NativeEngine) -> None:
    engine._networks.segments.create(NetworkSpec("tenant1", "site", subnet="192.168.77.0/24", parent="brsite"))
    engine.create(replace(spec(engine, networks=(Attachment("site", "192.168.77.2"),)), id="cvictim"))
    assert held(engine) == {"192.168.77.2@brsite"}
    holding.let_go_of_all(engine.home, "cvictim")
    assert fixed_claims(engine.home, "tenant1").take("192.168.77.2", "cvictim")
    found = engine.reconcile()
    assert (found.failed, found.swept) == ((), ("fixed:192.168.77.2",))
    assert held(engine) == {"192.168.77.2@brsite"}
    engine.remove("cvictim")
