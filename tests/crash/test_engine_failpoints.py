"""kill -9 at every failpoint of create, start, stop and remove: a new engine makes it whole, and nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import EventKind, State
from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.failpoint import POINTS
from tests import programs
from tests.conftest import Place, oci_runtime, patience
from tests.kernel.containers import fresh_engine
from tests.marks import no_cgroup
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
BRIEF = LIFE.replace('("sleep", "100000")', '("sh", "-c", "echo once; exit 7")')
HUNGRY = LIFE.replace('("sleep", "100000")', '("sh", "-c", "x=a; while :; do x=$x$x; done")').replace(
    'engine.stop("cvictim", grace_s=0)', 'import time\nwhile not engine.settle("cvictim").exit_code: time.sleep(0.05)'
)
KEPT = (
    LIFE.replace("32),", '32), restart=RestartPolicy("always"),')
    .replace("import ContainerSpec,", "import ContainerSpec, RestartPolicy, State,")
    .split("engine.stop")[0]
)
FALLEN = (
    KEPT
    + """
import contextlib, time
from runtime.errors import Conflict
while engine.settle("cvictim").state is State.RUNNING:
    with contextlib.suppress(Conflict):  # again: a first process that is not ready for it yet does not get it
        engine.kill("cvictim", "SIGUSR1")
    time.sleep(0.05)
"""
)
PICKED_UP = """
import time
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
while not engine.restarts.carry_out("cvictim"): time.sleep(0.02)
"""
BY_HAND = PICKED_UP.partition("while")[0] + 'engine.start("cvictim")'
ENDED = ("stop.sent", "settle", "release", "remove")
IN_EVERY_KERNEL = ("start.created", "settle.stored", "release.deleted", "remove.marked")
"""Of the points between steps on the container's cgroup or its processes, one of each verb."""
OF_AN_END = ("settle.stored", "release.deleted", "release.detached", "settle.released")
SOURCE = Path(__file__).parents[2]


def marked(points: Iterable[str]) -> list[object]:
    return [point if point in IN_EVERY_KERNEL else pytest.param(point, marks=no_cgroup) for point in points]


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    with fresh_engine() as made:
        programs.lived(STEADY)
        yield made


@pytest.mark.parametrize("point", marked(point for point in POINTS if not point.startswith("restart")))
def test_a_kill_at_any_point_is_made_whole(engine: NativeEngine, point: str) -> None:
    steady = engine.inspect("csteady")
    died = programs.run(LIFE, point)
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"
    again = NativeEngine(engine.home)
    again.reconcile()
    if point == "stop.sent":
        again.controls.wait("cvictim", patience(20))
    for status in again.list():
        assert status.state in {State.CREATED, State.RUNNING, State.EXITED}
    assert again.inspect("csteady") == steady, "a running container was disturbed"
    whole = programs.run(LIFE)
    assert whole.stdout == "lived\n", whole.stderr
    assert [status.id for status in again.list()] == ["csteady"]
    lives = 2 if point.startswith(ENDED) else 1
    readings = {(reading.epoch, reading.started_at) for reading in again.final_readings("cvictim")}
    assert len(readings) == lives, "each start has its final reading, once"
    assert re.fullmatch("(c(sd)*r)+", life_told(again, "cvictim")), (
        "each thing that happened is told, once and in order"
    )


@pytest.mark.parametrize("point", marked(point for point in POINTS if point.startswith(("restart", "start"))))
def test_a_restart_that_a_crash_cut_short_is_not_lost(engine: NativeEngine, point: str) -> None:
    programs.lived(FALLEN)
    died = programs.run(PICKED_UP, point)
    assert died.returncode == -signal.SIGKILL
    found = NativeEngine(engine.home).reconcile()
    assert "cvictim" in {*found.restarted, *found.adopted}
    status = engine.inspect("cvictim")
    assert (status.state, status.epoch, status.restarts, status.restart_at) == (State.RUNNING, 2, 1, None)
    now, now_ns = time.time(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert (now - (status.started_at or 0)) * 1e9 == pytest.approx(
        now_ns - (status.started_boottime_ns or 0), abs=10**9
    )
    engine.remove("cvictim", force=True)
    assert life_told(engine, "cvictim") == "csdsdr"
    assert [reading.epoch for reading in engine.final_readings("cvictim")] == [1, 2]


@pytest.mark.parametrize("point", marked(["start.marked", "start.created", "start.started", "start.saved"]))
def test_a_start_by_hand_that_a_crash_cut_short_loses_no_restart(engine: NativeEngine, point: str) -> None:
    programs.lived(FALLEN)
    assert programs.run(BY_HAND, point).returncode == -signal.SIGKILL
    deadline = time.monotonic() + patience(20)
    while engine.inspect("cvictim").state is not State.RUNNING:
        assert time.monotonic() < deadline
        NativeEngine(engine.home).reconcile()
    engine.remove("cvictim", force=True)


@pytest.mark.parametrize("point", marked(["stop.noted", "stop.told"]))
def test_who_starts_what_a_stop_left_running_has_its_restart_policy_again(engine: NativeEngine, point: str) -> None:
    died = programs.run(KEPT + 'engine.stop("cvictim")', point)
    assert died.returncode == -signal.SIGKILL
    assert "cvictim" in engine.reconcile().adopted, "it has not been told to end"
    engine.start("cvictim")
    os.kill(engine.inspect("cvictim").pid or 0, signal.SIGKILL)
    status = engine.controls.wait("cvictim", patience(20))
    assert status.restart_at is not None
    engine.remove("cvictim", force=True)


def life_told(engine: NativeEngine, id: str) -> str:
    """The first letters of created, started, died and removed, as they were told."""
    kinds = (EventKind.CREATED, EventKind.STARTED, EventKind.DIED, EventKind.REMOVED)
    return "".join(event.kind[0] for event in engine.events.read(subject=id) if event.kind in kinds)


def test_a_creation_that_outlives_its_asker_is_undone(engine: NativeEngine, tmp_path: Path) -> None:
    quick = oci_runtime()
    slow = tmp_path / "slow" / Path(quick).name
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\ncase " $* " in *" create "*) sleep 1;; esac\nexec {quick} "$@"\n', encoding="utf-8")
    slow.chmod(0o755)
    path = f"{slow.parent}:{os.environ['PATH']}"
    died = subprocess.run(
        [sys.executable, "-c", LIFE],
        env={**os.environ, "SLIPWAY_FAILPOINT": "start.creating", "PATH": path},
        check=False,
        cwd=SOURCE,
    )
    assert died.returncode == -signal.SIGKILL
    engine.reconcile()
    left = traces(engine.home)
    files = {file for file in left.files if file.startswith(str(engine.home.run)) and ".lock" not in file}
    assert "cvictim" not in str((left.cgroups, left.mounts, left.processes, files)), (
        "still being made after its start was undone"
    )
    assert engine.inspect("cvictim").state is State.CREATED


@pytest.mark.parametrize(
    "point",
    [
        point if point in OF_AN_END else pytest.param(point, marks=no_cgroup)
        for point in POINTS
        if point.startswith(("settle", "release")) and point != "settle.saved"
    ],
)
def test_how_it_ended_survives_a_crash_in_the_end(engine: NativeEngine, point: str) -> None:
    died = programs.run(HUNGRY, point)
    assert died.returncode == -signal.SIGKILL
    if point != "settle.saved":  # by then its status tells how it ended
        assert engine.final_readings("cvictim") == (), "a reading that its settle may still need is nobody's to forget"
    engine.reconcile()
    status = engine.inspect("cvictim")
    (final,) = engine.final_readings("cvictim")
    assert status.state is State.EXITED
    assert status.oom_killed
    assert status.exit_code == 128 + signal.SIGKILL
    assert status.finished_at == final.finished_at


def test_a_program_that_ends_before_its_start_is_recorded_is_not_run_again(engine: NativeEngine) -> None:
    died = programs.run(BRIEF, "start.started")
    assert died.returncode == -signal.SIGKILL
    deadline = time.monotonic() + patience(10)
    while not (engine.home.exits / "cvictim").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert engine.reconcile().settled == ("cvictim",)
    status = engine.inspect("cvictim")
    assert (status.state, status.exit_code, status.epoch) == (State.EXITED, 7, 1)
    (final,) = engine.final_readings("cvictim")
    assert final.counters.cpu_ns
    assert [line.text for line in engine.logs("cvictim")] == ["once"]


@no_cgroup
def test_a_removal_that_was_cut_short_holds_up_no_other_of_the_same_id(engine: NativeEngine) -> None:
    """Before anybody has looked for what it left."""
    assert programs.run(LIFE, "remove.freed").returncode == -signal.SIGKILL
    whole = programs.run(LIFE)
    assert whole.stdout == "lived\n", whole.stderr
    assert engine.reconcile().swept == ()


@no_cgroup
def test_what_is_made_during_a_reconcile_is_not_swept(engine: NativeEngine) -> None:
    """Reconcile runs on a schedule, beside launches."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def reconcile() -> None:
        other = NativeEngine(engine.home)
        while not stop.is_set():
            swept = other.reconcile().swept
            if swept:
                failures.append(AssertionError(f"swept {swept}"))

    thread = threading.Thread(target=reconcile)
    thread.start()
    try:
        for number in range(25):
            made = replace(engine.spec("csteady"), id=f"cmade{number}", name=f"made{number}")
            engine.create(made)
            assert engine.start(made.id).state is State.RUNNING
            engine.remove(made.id, force=True)
    finally:
        stop.set()
        thread.join()
    assert not failures


def test_one_broken_container_does_not_keep_the_others_from_being_put_right(engine: NativeEngine) -> None:
    broken = replace(engine.spec("csteady"), id="cbroken", name="broken", ports=())
    engine.create(broken)
    (engine.home.container("cbroken") / "status.json").write_text("{")
    found = NativeEngine(engine.home).reconcile()
    assert found.adopted == ("csteady",)
    assert [row.partition(":")[0] for row in found.failed] == ["cbroken"]
    shutil.rmtree(engine.home.container("cbroken"))
    assert "name:broken" in engine.reconcile().swept


def test_every_point_has_a_name_of_its_own() -> None:
    print(f"{len(POINTS)} failpoints")
    assert len(set(POINTS)) == len(POINTS)
