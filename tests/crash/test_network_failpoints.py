"""kill -9 at every failpoint of a network's life, and of a container's on two networks: a new engine makes it whole, and nothing is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.failpoint import NETWORK_POINTS, POINTS
from runtime.errors import NotFound
from runtime.home import Home
from runtime.kernel import link
from tests import programs
from tests.conftest import Place
from tests.crash.test_engine_failpoints import STEADY
from tests.kernel.containers import fresh_engine
from tests.marks import crashed_elsewhere, no_cgroup
from tests.traces import traces

pytestmark = [pytest.mark.root, no_cgroup]

LIFE = """
from runtime.api import Attachment, ContainerSpec, Limits, NetworkSpec, Port
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
engine.networks.create(NetworkSpec("tenant1", "back", ipv6=True))
spec = ContainerSpec("cvictim", "tenant1", "victim", engine.image("busybox").id, command=("sleep", "100000"),
                     limits=Limits(32 << 20, 500, 32, net_rx_bps=10**7, net_tx_bps=10**7), ports=(Port(80), Port(80, host_address="::")),
                     networks=(Attachment("back", aliases=("db",)), Attachment("default")))
engine.create(spec)
engine.start("cvictim")
engine.stop("cvictim", grace_s=0)
engine.remove("cvictim")
engine.networks.remove("tenant1", "back")
print("lived")
"""
OF_PLACES = tuple(point for point in POINTS if point.startswith(("start.", "release.")))


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    with fresh_engine() as made:
        programs.lived(STEADY)
        yield made


@pytest.mark.parametrize(
    "point", [*NETWORK_POINTS, *(pytest.param(point, marks=crashed_elsewhere) for point in OF_PLACES)]
)
def test_a_kill_at_any_point_is_made_whole(engine: NativeEngine, point: str) -> None:
    steady, before = engine.inspect("csteady"), traces(engine.home)
    died = programs.run(LIFE, point)
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"
    again = NativeEngine(engine.home)
    again.reconcile()
    assert again.inspect("csteady") == steady, "a running container was disturbed"
    try:
        again.networks.inspect("tenant1", "back")
    except NotFound:
        nothing_left(engine.home)
    whole = programs.run(LIFE)
    assert whole.stdout == "lived\n", whole.stderr
    nothing_left(engine.home)
    new = traces(engine.home).new_since(before)
    assert not {kind: names for kind, names in new.items() if kind != "files"}
    assert not [name for name in new.get("files", ()) if f"{engine.home.run}/" in name]


def nothing_left(home: Home) -> None:
    """Of the network that is removed: no bridge, no name server, no shaper."""
    bridge = home.bridge("tenant1", "back")
    assert not link.exists(bridge)
    assert not (home.run / "dns" / bridge).exists()
    assert not (home.run / "bridges" / bridge).exists()
    assert not [name for name in home.shapers("cvictim") if link.exists(name)]


def test_every_point_has_a_name_of_its_own() -> None:
    names = (*POINTS, *NETWORK_POINTS)
    print(f"{len(NETWORK_POINTS)} failpoints of networks")
    assert len(set(names)) == len(names)
