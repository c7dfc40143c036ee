"""kill -9 at every failpoint of create, start, stop and remove: a new engine makes it whole, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import State
from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.failpoint import POINTS
from runtime.home import Home
from tests.conftest import Place
from tests.traces import traces

pytestmark = pytest.mark.root

LIFE = """
import sys
from runtime.api import ContainerSpec, Limits, Port
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
spec = ContainerSpec("cvictim", "tenant1", "victim", engine.image("busybox").id, command=("sleep", "100000"),
                     limits=Limits(32 << 20, 500, 32), ports=(Port(80),))
engine.create(spec)
engine.start("cvictim")
engine.stop("cvictim", grace_s=0)
engine.remove("cvictim")
print("lived")
"""
STEADY = LIFE.replace("victim", "steady").split("engine.stop")[0]


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    made = NativeEngine(Home.from_environment())
    made.build("busybox")
    subprocess.run([sys.executable, "-c", STEADY], check=True, cwd=Path(__file__).parents[2])
    yield made
    made.teardown()
    left = traces(made.home)
    for kind in ("mounts", "cgroups", "interfaces", "processes", "firewall"):
        assert not getattr(left, kind), f"{kind} left behind"


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_is_made_whole(engine: NativeEngine, point: str) -> None:
    steady = engine.inspect("csteady")
    environment = {**os.environ, "SLIPWAY_FAILPOINT": point}
    died = subprocess.run(
        [sys.executable, "-c", LIFE],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"
    again = NativeEngine(engine.home)
    again.reconcile()
    for status in again.list():
        assert status.state in {State.CREATED, State.RUNNING, State.EXITED}
    assert again.inspect("csteady") == steady, "a running container was disturbed"
    whole = subprocess.run(
        [sys.executable, "-c", LIFE], check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert whole.stdout == "lived\n", whole.stderr
    assert [status.id for status in again.list()] == ["csteady"]
    readings = [reading.epoch for reading in again.final_readings("cvictim")]
    assert len(readings) == len(set(readings))


def test_every_point_has_a_name_of_its_own() -> None:
    print(f"{len(POINTS)} failpoints")
    assert len(set(POINTS)) == len(POINTS)
