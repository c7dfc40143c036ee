"""kill -9 at every failpoint of the removal of a container whose files are damaged: asked again it is finished, and nothing is left or lost."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.api import (
    Attachment,
    ContainerStatus,
    Counters,
    FinalReading,
    Limits,
    NetworkSpec,
    Port,
    State,
    VolumeMount,
    VolumeSpec,
)
from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.failpoint import DAMAGE_POINTS, POINTS
from runtime.kernel.process import start_time
from tests import programs
from tests.conftest import Place, patience
from tests.crash.test_engine_failpoints import life_told
from tests.kernel.containers import fresh_engine, run, spec
from tests.marks import a_step_like_others, no_cgroup
from tests.traces import Traces, traces

pytestmark = pytest.mark.root

VICTIM = """
from runtime.api import Attachment, ContainerSpec, Limits, Port, VolumeMount
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
limits = Limits(32 << 20, 500, 32, disk_bytes=16 << 20, net_rx_bps=10**7, net_tx_bps=10**7)
engine.create(ContainerSpec("cvictim", "tenant1", "victim", engine.image("busybox").id,
    command=("sh", "-c", "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; exec sleep 100000"),
    limits=limits, ports=(Port(80), Port(80, "udp", host_address="::")), volumes=(VolumeMount("data", "/v"),),
    networks=(Attachment("back", aliases=("db",)), Attachment("default"))))
engine.start("cvictim")
"""
REMOVE = """
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
NativeEngine(Home.from_environment()).remove("cvictim", force=True)
print("removed")
"""
LIMITS = Limits(32 << 20, 500, 32, disk_bytes=16 << 20, net_rx_bps=10**7, net_tx_bps=10**7)
DATA = (VolumeMount("data", "/v"),)
NONSENSE = "{"
IN_EVERY_KERNEL = frozenset({"damage.stored"})


@dataclass(frozen=True, slots=True)
class Scene:
    engine: NativeEngine
    before: Traces
    """Without the container that is damaged."""
    steady: ContainerStatus
    was: ContainerStatus
    counted: Counters

    @property
    def files(self) -> Path:
        return self.engine.home.container("cvictim")

    @property
    def group(self) -> str:
        return self.engine.home.cgroup("tenant1", "cvictim")


@pytest.fixture
def scene(place: Place) -> Iterator[Scene]:
    """A container with all that one can have in the kernel, which runs beside another on the same networks."""
    with fresh_engine() as engine:
        engine.networks.create(NetworkSpec("tenant1", "back", ipv6=True))
        engine.volumes.create(VolumeSpec("tenant1", "data", 16 << 20))
        places = (Attachment("back"), Attachment("default"))
        run(
            engine,
            spec(engine, id="csteady", name="steady", networks=places, ports=(Port(80),), limits=LIMITS, volumes=DATA),
        )
        before = traces(engine.home)
        programs.lived(VICTIM)
        was, counted = engine.inspect("cvictim"), engine.counters(["cvictim"])["cvictim"]
        assert traces(engine.home, containers=("cvictim",)).new_since(before).keys() >= {
            "mounts", "cgroups", "interfaces", "firewall", "processes", "files", "loops",
        }  # fmt: skip
        yield Scene(engine, before, engine.inspect("csteady"), was, counted)


def nothing_left(scene: Scene) -> None:
    left = traces(scene.engine.home, containers=("cvictim",)).new_since(scene.before)
    files = [name for name in left.pop("files", []) if "/final/" not in name]
    assert (left, files) == ({}, [])


def told_once(scene: Scene, final: FinalReading) -> None:
    """Its reading, as exact as that of one that is whole."""
    assert (final.tenant, final.epoch, final.limits) == ("tenant1", 1, LIMITS)
    assert final.started_at <= (scene.was.started_at or 0) <= final.finished_at
    assert (final.counters.cpu_ns or 0) >= (scene.counted.cpu_ns or 0) > 0
    assert life_told(scene.engine, "cvictim") == "csdr"


@pytest.mark.parametrize(
    "point",
    [
        point if point in IN_EVERY_KERNEL else pytest.param(point, marks=[no_cgroup, a_step_like_others])
        for point in DAMAGE_POINTS
    ],
)
def test_a_kill_in_a_removal_by_force_is_finished_by_the_next(scene: Scene, point: str) -> None:
    (scene.files / "status.json").write_text(NONSENSE)
    died = programs.run(REMOVE, point)
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"
    kept = list(scene.engine.home.final.glob("cvictim-1-*.json"))
    has_cgroup = any(Path("/sys/fs/cgroup").glob(f"*{scene.group}")) or Path(f"/sys/fs/cgroup{scene.group}").exists()
    assert kept or has_cgroup, "its cgroup went before its last counters were on the disk"
    again = NativeEngine(scene.engine.home)
    found = again.reconcile()
    here = {one.id: one.state for one in again.list()}
    if point in {"remove.renamed", "remove.unnamed", "remove.freed"}:
        assert (here, found.failed) == ({"csteady": State.RUNNING}, ())
        nothing_left(scene)
    else:
        assert here == {"csteady": State.RUNNING, "cvictim": State.DAMAGED}
        assert [row.partition(":")[0] for row in found.failed] == ["cvictim"]
    assert again.inspect("csteady") == scene.steady, "a bystander was disturbed"
    whole = programs.run(REMOVE)
    assert whole.stdout == "removed\n", whole.stderr
    nothing_left(scene)
    assert again.inspect("csteady") == scene.steady
    (final,) = again.final_readings("cvictim")
    told_once(scene, final)
    assert (final.counters.net_tx_bytes or 0) >= (scene.counted.net_tx_bytes or 0) > 0
    programs.lived(VICTIM)  # all that it had is free
    assert again.inspect("cvictim").state is State.RUNNING


def emptied(*names: str) -> Callable[[Path], None]:
    def damage(files: Path) -> None:
        for name in names:
            (files / name).write_text(NONSENSE)

    return damage


def gone(*names: str) -> Callable[[Path], None]:
    def damage(files: Path) -> None:
        for name in names:
            (files / name).unlink()

    return damage


def a_folder_in_its_place(files: Path) -> None:
    (files / "status.json").unlink()
    (files / "status.json").mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(emptied("spec.json"), id="spec", marks=no_cgroup),
        pytest.param(emptied("spec.json", "status.json"), id="both", marks=no_cgroup),
        pytest.param(gone("spec.json"), id="no spec", marks=no_cgroup),
        pytest.param(gone("status.json"), id="no status", marks=no_cgroup),
        pytest.param(gone("spec.json", "status.json"), id="neither", marks=no_cgroup),
        pytest.param(a_folder_in_its_place, id="a folder", marks=no_cgroup),
    ],
)
def test_whatever_of_its_files_is_damaged_its_last_counters_are_kept(
    scene: Scene, damage: Callable[[Path], None]
) -> None:
    damage(scene.files)
    again = NativeEngine(scene.engine.home)
    assert {one.id: one.state for one in again.list()} == {"csteady": State.RUNNING, "cvictim": State.DAMAGED}
    assert again.inspect("cvictim").state is State.DAMAGED
    again.remove("cvictim", force=True)
    nothing_left(scene)
    (final,) = again.final_readings("cvictim")
    told_once(scene, final)
    assert again.inspect("csteady") == scene.steady


@no_cgroup
def test_what_went_over_interfaces_that_nobody_knows_is_no_zero(scene: Scene) -> None:
    emptied("status.json", "interfaces.json")(scene.files)
    scene.engine.remove("cvictim", force=True)
    nothing_left(scene)
    (final,) = scene.engine.final_readings("cvictim")
    told_once(scene, final)
    assert (final.counters.net_tx_bytes, final.counters.net_rx_bytes) == (None, None)


@no_cgroup
def test_one_whose_start_nobody_knows_leaves_nothing_behind(scene: Scene) -> None:
    """And no reading that says what is not so: the console tells it as missing."""
    (scene.files / "status.json").write_text(NONSENSE)
    (scene.engine.home.bundle("cvictim") / "config.json").write_text(NONSENSE)
    scene.engine.remove("cvictim", force=True)
    nothing_left(scene)
    assert scene.engine.final_readings("cvictim") == ()
    assert life_told(scene.engine, "cvictim") == "csdr"


@no_cgroup
def test_one_that_was_lost_with_all_its_files_is_counted_to_its_end(scene: Scene) -> None:
    shutil.rmtree(scene.files)
    again = NativeEngine(scene.engine.home)
    assert "cgroup:cvictim" not in again.reconcile().swept, "it lives, and nobody has asked for its end"
    pid = scene.was.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patience(10)
    while start_time(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "cgroup:cvictim" in again.reconcile().swept
    nothing_left(scene)
    (final,) = again.final_readings("cvictim")
    assert (final.epoch, final.limits) == (1, LIMITS)
    assert (final.counters.cpu_ns or 0) >= (scene.counted.cpu_ns or 0)


def test_every_point_of_damage_has_a_name_of_its_own() -> None:
    print(f"{len(DAMAGE_POINTS)} failpoints of a removal by force of what is damaged")
    assert len(set(DAMAGE_POINTS)) == len(DAMAGE_POINTS)
    assert {point for point in DAMAGE_POINTS if not point.startswith("damage.")} <= set(POINTS)
