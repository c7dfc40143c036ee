"""Launches and removals by 24 threads of three processes at once, beside a reconciliation that never rests: no failure, no trace.

Usually for 25 seconds.  ``SLIPWAY_TEST_SOAK_S=600 ./slipway test crash -- -k all_at_once`` makes it ten minutes; from two minutes on the
memory and the descriptors of each process are judged as well: flat, by their trend and by their quarters (:mod:`tests.steadiness`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.settings import ARENAS
from runtime.api import ContainerSpec, ExecSpec, Limits, Port, State
from runtime.engines.native.engine import NativeEngine
from tests.conftest import Place
from tests.kernel.containers import fresh_engine, run
from tests.marks import too_much
from tests.steadiness import Watched
from tests.traces import Traces, traces

SOURCE = Path(__file__).parents[2]
PROCESSES, THREADS = 3, 8
SOAK_S, KILLS_S = float(os.environ.get("SLIPWAY_TEST_SOAK_S", "25")), 12.0
TELLS_AFTER_S = 120.0
"""Before, a process still takes what it needs for good: threads' stacks, arenas, modules."""
READ_FROM_EACH = 12
"""Descriptors that stay open to read a container's counters by, as long as it is there."""

pytestmark = [pytest.mark.root, too_much, pytest.mark.timeout(300 + 2 * SOAK_S)]
LIVES = """
import random, sys, threading, time, traceback
from runtime.api import ContainerSpec, ExecSpec, Limits, Port, State
from runtime.engines.native.engine import NativeEngine
from runtime.errors import Conflict, NotFound
from runtime.home import Home
from tests.steadiness import giving_back

giving_back()
process, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
engine = NativeEngine(Home.from_environment())
image = engine.image("busybox").id
ends = time.monotonic() + seconds
failed = threading.Event()
lived = []

def plain(id):
    assert engine.start(id).state is State.RUNNING

def stopped(id):
    engine.start(id)
    assert engine.stop(id, grace_s=0).state is State.EXITED

def restarted(id):
    engine.start(id)
    assert engine.restart(id, grace_s=0).epoch == 2

def killed(id):
    engine.start(id)
    engine.kill(id)

def entered(id):
    engine.start(id)
    session = engine.exec(id, ExecSpec(("echo", "hello"), terminal=random.random() < 0.5))
    assert session.wait(60) == 0
    session.close()

def raced(id):
    remover = threading.Thread(target=engine.remove, args=(id,), kwargs={"force": True})
    remover.start()
    try:
        assert engine.start(id).state is State.RUNNING
    except (NotFound, Conflict):
        pass
    remover.join()

def live(thread):
    number = 0
    while time.monotonic() < ends and not failed.is_set():
        number += 1
        id = f"c{process}x{thread}x{number}"
        ports = random.choice(((), (Port(80),), (Port(80), Port(53, "udp"))))
        disk = 24 << 20 if random.random() < 0.1 else None
        spec = ContainerSpec(id, random.choice(("tenant1", "tenant2")), id, image, command=("sleep", "1000"),
                             limits=Limits(16 << 20, 200, 16, disk_bytes=disk), ports=ports, stop_signal="SIGKILL")
        way = random.choice((plain, stopped, restarted, killed, entered, raced))
        try:
            engine.create(spec)
            way(id)
            engine.remove(id, force=True)
            engine.remove(id, force=True)
            try:
                engine.inspect(id)
            except NotFound:
                lived.append(id)
            else:
                raise AssertionError("it is still there")
        except BaseException:
            print(way.__name__, id, traceback.format_exc(), flush=True)
            failed.set()

running = [threading.Thread(target=live, args=(number,)) for number in range(threads)]
for one in running:
    one.start()
for one in running:
    one.join()
print("lived", len(lived))
sys.exit(failed.is_set())
"""


def steady(engine: NativeEngine, tenant: str) -> ContainerSpec:
    return ContainerSpec(
        f"csteady{tenant}", tenant, "steady", engine.image("busybox").id, command=("sleep", "1000"),
        limits=Limits(16 << 20, 200, 16), ports=(Port(80),),
    )  # fmt: skip


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    """Two tenants have one container each, from before and beyond."""
    with fresh_engine() as made:
        for tenant in ("tenant1", "tenant2"):
            run(made, steady(made, tenant))
        disk = Limits(disk_bytes=24 << 20)
        first = run(made, replace(steady(made, "tenant1"), id="cfirst", name="first", ports=(), limits=disk))
        made.remove(first, force=True)  # of what a disk needs, the folder around them stays
        for reading in made.final_readings():
            made.acknowledge(reading)
        yield made


def begin(name: str, seconds: float, temporary: Path | None = None) -> subprocess.Popen[str]:
    """With the worker's own malloc; ``temporary``: where its temporary files go."""
    arguments = [sys.executable, "-c", LIVES, name, str(THREADS), str(seconds)]
    environment = {**os.environ, "MALLOC_ARENA_MAX": ARENAS, **({"TMPDIR": str(temporary)} if temporary else {})}
    return subprocess.Popen(
        arguments, cwd=SOURCE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def as_before(engine: NativeEngine, before: Traces, statuses: object) -> None:
    for reading in engine.final_readings():
        engine.acknowledge(reading)
    assert engine.list() == statuses, "what was there before was disturbed, or something is left"
    after = traces(engine.home)
    for kind in ("mounts", "cgroups", "interfaces", "processes", "firewall", "loops"):
        assert getattr(after, kind) == getattr(before, kind), kind
    assert but_events(engine, after) == but_events(engine, before)


def but_events(engine: NativeEngine, found: Traces) -> set[str]:
    """Files.  The journal begins another segment each few thousand events, and keeps eight."""
    events = str(engine.home.state / "events")
    return {name for name in found.files if not name.startswith(f"{events}/")}


def test_launches_and_removals_all_at_once(engine: NativeEngine, tmp_path: Path) -> None:
    engine.exec("csteadytenant1", ExecSpec(("true",))).close()
    before, statuses = traces(engine.home), engine.list()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    children = [begin(f"p{number}", SOAK_S, temporary) for number in range(PROCESSES)]
    allowed = {os.getpid(): READ_FROM_EACH * PROCESSES * THREADS}
    watched = Watched([[child.pid for child in children], [os.getpid()]], allowed)
    reconciled = 0
    try:
        with watched.watching():
            while any(child.poll() is None for child in children):
                found = engine.reconcile()
                assert not found.failed
                assert not found.swept, "something of a container in the making was swept"
                assert set(engine.counters()) >= {"csteadytenant1", "csteadytenant2"}
                reconciled += 1
                time.sleep(0.1)
    except BaseException:
        for child in children:
            child.kill()
            child.communicate()
        raise
    said = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0] * PROCESSES, "\n".join(said)
    lived = [int(text.split()[-1]) for text in said]
    print(f"{sum(lived)} lives, {reconciled} reconciliations in {SOAK_S:g} s")
    print(watched.report())
    assert min(lived) > 0
    assert reconciled > 1
    if SOAK_S >= TELLS_AFTER_S:
        assert not watched.growing_memory()
        assert not watched.growing_descriptors()
    assert not list(temporary.iterdir()), "temporary files are left"
    as_before(engine, before, statuses)


def test_processes_that_are_killed_amid_that_leave_nothing(engine: NativeEngine) -> None:
    engine.exec("csteadytenant1", ExecSpec(("true",))).close()
    before, statuses = traces(engine.home), engine.list()
    ends, number = time.monotonic() + KILLS_S, 0
    while time.monotonic() < ends:
        children = [begin(f"k{number}p{one}", KILLS_S) for one in range(2)]
        time.sleep(2.5)
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
        said = [child.communicate()[0] for child in children]
        assert not any(said), "\n".join(said)
        number += 1
    found = engine.reconcile()
    assert not found.failed
    for status in engine.list():
        assert status.state in {State.CREATED, State.RUNNING, State.EXITED}
        if not status.id.startswith("csteady"):
            engine.remove(status.id, force=True)
    assert not engine.reconcile().swept, "one reconciliation finds everything"
    as_before(engine, before, statuses)
