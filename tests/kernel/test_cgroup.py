"""cgroups of version 1 or 2, whichever this machine has: what is limited, what is counted, and who is killed."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import ContainerSpec, Limits, State
from runtime.engines.native.engine import NativeEngine
from runtime.errors import HostUnfit
from runtime.home import Home
from runtime.kernel import cgroup
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import start_time
from tests.conftest import Place, patience
from tests.prepared import busybox
from tests.traces import traces

pytestmark = pytest.mark.root

needs_2 = pytest.mark.skipif(cgroup.version() == 1, reason="a rule of cgroup version 2; this machine has version 1")
MIB = 2**20


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    made = NativeEngine(Home.from_environment())
    busybox(made)
    yield made
    made.teardown()
    left = traces(made.home)
    for kind in ("mounts", "cgroups", "processes"):
        assert not getattr(left, kind), f"{kind} left behind"


@pytest.fixture
def group() -> Iterator[Cgroup]:
    """An empty one, which needs no engine."""
    name = f"/t{secrets.token_hex(4)}"
    made = Cgroup(f"{name}/tenant/leaf")
    if cgroup.version() == 2:  # what offers controllers to others may hold no process itself
        cgroup.ensure_parent(f"{name}/tenant")
        made._main.mkdir()
    else:
        cgroup.ensure_parent(made.path)
    yield made
    made.kill()
    Cgroup(name).remove()


def started(engine: NativeEngine, *command: str, limits: Limits = Limits(32 * MIB, 500, 64)) -> ContainerSpec:  # noqa: B008 -- frozen
    id = "c" + secrets.token_hex(5)
    spec = ContainerSpec(id, "tenant1", id, engine.image("busybox").id, command=command, limits=limits)
    engine.create(spec)
    engine.start(id)
    return spec


def ended(engine: NativeEngine, spec: ContainerSpec) -> None:
    deadline = time.monotonic() + patience(20)
    while engine.settle(spec.id).state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def enter(group: Cgroup, *command: str) -> subprocess.Popen[bytes]:
    """Start a program that is in the cgroup, in every hierarchy, before it does anything."""
    files = " ".join(f"{folder}/cgroup.procs" for folder in group._folders())
    script = f'for file in {files}; do echo $$ > "$file"; done; exec "$@"'
    return subprocess.Popen(["sh", "-ec", script, "sh", *command])


def test_each_limit_is_in_the_kernel(engine: NativeEngine) -> None:
    small = started(engine, "sleep", "100")
    large = started(engine, "sleep", "100", limits=Limits(64 * MIB, 1000, 32))
    found = engine.isolation(small.id).cgroup_limits
    other = engine.isolation(large.id).cgroup_limits
    if cgroup.version() == 2:
        assert (found["memory.max"], found["memory.swap.max"]) == (str(32 * MIB), "0")
        assert (found["cpu.max"], found["pids.max"]) == ("50000 100000", "64")
        weight = "cpu.weight"
    else:
        assert found["memory.limit_in_bytes"] == found["memory.memsw.limit_in_bytes"] == str(32 * MIB)
        assert (found["cpu.cfs_quota_us"], found["cpu.cfs_period_us"], found["pids.max"]) == ("50000", "100000", "64")
        weight = "cpu.shares"
    assert int(found[weight]) < int(other[weight]), "who pays for more gets more of a busy processor"


def test_every_counter_of_a_running_container_is_there(engine: NativeEngine) -> None:
    spec = started(engine, "sh", "-c", "while :; do :; done")
    counters = engine.counters([spec.id])[spec.id]
    assert None not in (
        counters.cpu_ns, counters.throttled_ns, counters.memory_bytes, counters.working_set_bytes, counters.pids,
        counters.oom_kills, counters.block_read_bytes, counters.block_write_bytes, counters.net_rx_bytes, counters.net_tx_bytes,
    )  # fmt: skip
    assert counters.pids in {1, 2}, "the init, and soon the program"


def test_the_final_readings_of_a_tenant_sum_to_what_its_cgroup_counted(engine: NativeEngine) -> None:
    """The tenant's cgroup keeps what its dead children used: on version 1 to the nanosecond, on 2 in whole microseconds."""
    many = 5
    for _ in range(many):
        spec = started(
            engine, "sh", "-c", "for i in 1 2 3 4 5 6; do (n=0; while [ $n -lt 300 ]; do n=$((n+1)); done) & done; wait"
        )
        ended(engine, spec)
    finals = [reading.counters.cpu_ns for reading in engine.final_readings()]
    reader = cgroup.Reader(f"/{engine.home.instance}/tenant1")
    whole = reader.read().cpu_ns
    reader.close()
    assert len(finals) == many
    assert all(finals)
    assert whole is not None
    apart = whole - sum(used or 0 for used in finals)
    assert abs(apart) <= (1000 * many if cgroup.version() == 2 else 0), f"{apart} ns of {whole}"


def short_life(group: Cgroup) -> None:
    """Two processes that are in the cgroup before they do anything, to the last one's end."""
    pid = os.fork()
    if pid == 0:
        (group._main / "cgroup.procs").write_text("0")
        child = os.fork()
        sum(range(20_000))
        if child:
            os.wait()
        os._exit(0)
    os.waitpid(pid, 0)


@needs_2
def test_hundreds_of_short_lives_sum_to_what_their_parent_counted() -> None:
    """METERING.md's second invariant where the kernel counts, each in a cgroup that is gone when the next begins.

    On version 1 six hundred real containers are counted (test_metering), which is exact; here an emulated processor takes too long for them.
    """
    top, many = Cgroup(f"/t{secrets.token_hex(4)}"), 200
    used = []
    cgroup.ensure_parent(f"{top.path}/tenant")
    try:
        for number in range(many):
            group = Cgroup(f"{top.path}/tenant/c{number}")
            group._main.mkdir()
            short_life(group)
            assert not group.populated()
            used.append(counted(group))
            group.remove()
        whole = counted(Cgroup(f"{top.path}/tenant"))
    finally:
        top.remove()
    assert all(used)
    assert abs(whole - sum(used)) <= 1000 * many, f"{whole - sum(used)} ns of {whole}"


def counted(group: Cgroup) -> int:
    reader = cgroup.Reader(group.path)
    found = reader.read().cpu_ns
    reader.close()
    return found or 0


def test_what_is_written_to_the_disk_is_counted_to_the_end(engine: NativeEngine) -> None:
    spec = started(engine, "sh", "-c", "dd if=/dev/zero of=/file bs=1M count=4 conv=fsync")
    ended(engine, spec)
    (final,) = engine.final_readings(spec.id)
    assert final.counters.block_write_bytes is not None
    assert final.counters.block_write_bytes >= 4 * MIB


def test_a_kill_reaches_whoever_forks_meanwhile(group: Cgroup) -> None:
    child = enter(group, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do while :; do true; sh -c true; done & done; wait")
    deadline = time.monotonic() + patience(10)
    while len(group.procs()) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    group.kill()
    assert not group.populated()
    assert group.procs() == ()
    child.wait()


def test_a_cgroup_that_is_gone_has_nobody_to_kill(group: Cgroup) -> None:
    group.remove()
    group.kill()
    assert not group.populated()
    assert not group.exists()


def test_a_process_that_has_ended_was_not_taken_out_of_it(group: Cgroup) -> None:
    """Version 1 shows it at the top."""
    program = enter(group, "true")
    deadline = time.monotonic() + patience(10)
    while start_time(program.pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert cgroup.confines(group.path, program.pid)
    assert not cgroup.confines(group.path, os.getpid())
    program.wait()


def test_only_the_last_process_leaves_it_empty(group: Cgroup) -> None:
    first, second = enter(group, "sleep", "100"), enter(group, "sleep", "100")
    deadline = time.monotonic() + patience(10)
    while len(group.procs()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for child, rest in ((first, True), (second, False)):
        child.kill()
        child.wait()
        assert group.populated() is rest


@needs_2
def test_a_tenants_cgroup_offers_all_controllers(group: Cgroup) -> None:
    offered = (group._main / "cgroup.controllers").read_text().split()
    assert set(offered) >= {"cpu", "cpuset", "io", "memory", "pids"}


@needs_2
def test_a_place_that_holds_processes_is_refused_with_the_reason(group: Cgroup) -> None:
    """As in a container without a cgroup of its own: the kernel's rule against inner processes (EBUSY)."""
    child = enter(group, "sleep", "100")
    deadline = time.monotonic() + patience(10)
    while not group.populated():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(HostUnfit, match="cgroup controller"):
        cgroup.ensure_parent(f"{group.path}/below")
    child.kill()
    child.wait()


@needs_2
@pytest.mark.skipif(not Path("/run/systemd/system").exists(), reason="systemd does not run here")
def test_systemd_takes_no_limit_away(engine: NativeEngine) -> None:
    spec = started(engine, "sleep", "100")
    before = engine.isolation(spec.id).cgroup_limits
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=patience(30))
    assert engine.isolation(spec.id).cgroup_limits == before
    assert engine.counters([spec.id])[spec.id].pids in {1, 2}
    assert started(engine, "sleep", "100").id in engine.counters()


@needs_2
def test_a_controller_that_is_taken_away_in_the_very_moment_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd does that reckons anew what its units need: from above, while the folder below is made."""
    top, name = cgroup.ROOT / f"t{secrets.token_hex(4)}", "inner"
    top.mkdir()
    turn_on, taken = cgroup._turn_on, []

    def turning_on(folder: Path, controller: str) -> None:
        if folder == top / name and controller == "cpu" and not taken:
            taken.append((top / "cgroup.subtree_control").write_text("-cpu"))
        turn_on(folder, controller)

    monkeypatch.setattr(cgroup, "_turn_on", turning_on)
    try:
        cgroup.ensure_parent(f"/{top.name}/{name}")
        assert taken
        assert "cpu" in (top / name / "cgroup.subtree_control").read_text().split()
    finally:
        (top / name).rmdir()
        top.rmdir()


def test_this_process_is_where_it_was(group: Cgroup) -> None:
    before = Path("/proc/self/cgroup").read_text()
    with cgroup.moves_expected():
        enter(group, "true").wait()
    assert Path("/proc/self/cgroup").read_text() == before
    assert os.getpid() not in group.procs()
