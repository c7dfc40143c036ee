"""Each limit exceeded by a program that wants more; what counts is what the kernel counted, never how long something took."""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.api import ContainerSpec, Limits, State, TenantLimits
from runtime.engines.native import resizing
from runtime.engines.native.engine import NativeEngine
from runtime.errors import Conflict, HostUnfit, LimitExceeded
from runtime.home import Home
from runtime.kernel import cgroup, disk, limits
from tests.conftest import Place, patience
from tests.kernel.containers import engine
from tests.prepared import busybox

__all__ = ["engine"]
pytestmark = pytest.mark.root
MIB = 2**20
KIB = 2**10
PLAIN = Limits(32 * MIB, 1000, 64)
BUSY = ("sh", "-c", "while :; do :; done")


@pytest.fixture
def fast_disk(engine: NativeEngine) -> None:
    """A disk that can be limited."""
    if disk.carrying(engine.home.state) is None:
        pytest.skip("the tests' home lies on no disk that can be limited")


def started(engine: NativeEngine, *command: str, tenant: str = "tenant1", **changes: Any) -> str:
    id = "c" + secrets.token_hex(5)
    spec = ContainerSpec(id, tenant, id, engine.image("busybox").id, command=command, limits=replace(PLAIN, **changes))
    engine.create(spec)
    engine.start(id)
    return id


def ended(engine: NativeEngine, id: str) -> list[str]:
    engine.controls.wait(id, patience(60))
    return [line.text for line in engine.logs(id)]


def used(engine: NativeEngine, *ids: str, seconds: float = 1.5) -> list[float]:
    """vCPU of each over a while."""
    before = engine.counters(ids)
    time.sleep(seconds)
    after = engine.counters(ids)
    return [
        ((after[id].cpu_ns or 0) - (before[id].cpu_ns or 0)) / (after[id].boottime_ns - before[id].boottime_ns)
        for id in ids
    ]


# ------------------------------------------------------------------------------------------------ processor


def test_a_container_stays_on_its_processors(engine: NativeEngine) -> None:
    script = "grep Cpus_allowed_list /proc/self/status; for i in 1 2 3; do while :; do :; done & done; wait"
    id = started(engine, "sh", "-c", script, cpu_millis=(os.cpu_count() or 1) * 1000, cpuset="0")
    assert next(iter(engine.logs(id, follow=True))).text.split() == ["Cpus_allowed_list:", "0"]
    assert used(engine, id)[0] <= 1.05, "three loops, one processor"


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor only")
def test_a_container_moves_to_other_processors(engine: NativeEngine) -> None:
    id = started(engine, *BUSY, cpuset="0")
    pid = engine.controls.top(id)[-1].node_pid
    for wanted, expected in (("1", {1}), ("", os.sched_getaffinity(1))):
        engine.controls.update(id, replace(PLAIN, cpuset=wanted))
        assert os.sched_getaffinity(pid) == expected


def test_weight_shares_a_busy_processor(engine: NativeEngine) -> None:
    light, heavy = (started(engine, *BUSY, cpuset="0", cpu_weight=weight) for weight in (100, 800))
    least, most = used(engine, light, heavy)
    assert most > 3 * least > 0, "8 to 1, where equals would be 1 to 1"


# ------------------------------------------------------------------------------------------------ memory


def hungry(mib: int) -> tuple[str, ...]:
    return ("sh", "-c", f"dd if=/dev/zero of=/dev/null bs={mib}M count=1 2>/dev/null && echo lived || echo died")


@pytest.fixture
def swap(tmp_path: Path) -> Iterator[None]:
    """64 MiB of it, for a moment: the limit has nothing to bite where there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    file = tmp_path / "swap"
    file.write_bytes(bytes(64 * MIB))
    file.chmod(0o600)
    subprocess.run(["mkswap", str(file)], check=True, capture_output=True)
    if libc.swapon(os.fsencode(file), 0) != 0:
        pytest.skip(f"no swap here: {os.strerror(ctypes.get_errno())}")
    yield
    assert libc.swapoff(os.fsencode(file)) == 0


@pytest.mark.usefixtures("swap")
def test_swap_is_given_and_limited(engine: NativeEngine) -> None:
    if not limits.swap_counts():
        pytest.skip("this kernel does not limit swap")
    assert ended(engine, started(engine, *hungry(44))) == ["died"], "by default a container has none"
    assert ended(engine, started(engine, *hungry(44), swap_bytes=32 * MIB)) == ["lived"]
    assert ended(engine, started(engine, *hungry(80), swap_bytes=32 * MIB)) == ["died"]


def test_a_killed_child_is_told_of_a_container_that_lives_on(engine: NativeEngine) -> None:
    id = started(engine, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=80M count=1; echo after; exec sleep 100")
    lines = engine.logs(id, follow=True)
    while next(lines).text != "after":
        pass
    told = engine.inspect(id)
    assert (told.state, told.oom_killed, told.oom_kills) == (State.RUNNING, False, 1)
    assert "out of memory" in told.reason
    engine.upkeep()
    (event,) = (event for event in engine.events.read(subject=id) if event.kind == "oom")
    assert event.data == {"epoch": 1, "kills": 1}
    assert NativeEngine(engine.home).list()[0].oom_kills == 1, "written down for who lists them"
    assert engine.controls.resume(id).oom_kills == 1
    stopped = engine.stop(id, grace_s=0)
    assert (stopped.oom_kills, stopped.oom_killed) == (1, False), "a person's stop ended it"


def test_a_container_that_ends_with_its_killed_child_is_told_so(engine: NativeEngine) -> None:
    for script, expected in (("exit 3", (3, False)), ("kill -9 $$", (137, True))):
        id = started(engine, "sh", "-c", f"dd if=/dev/zero of=/dev/null bs=80M count=1; {script}")
        status = engine.controls.wait(id, patience(20))
        assert ((status.exit_code, status.oom_killed), status.oom_kills) == (expected, 1)
        assert "out of memory" in status.reason


def test_a_killed_child_is_no_reason_of_a_good_end(engine: NativeEngine) -> None:
    id = started(engine, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=80M count=1; true")
    status = engine.controls.wait(id, patience(20))
    assert (status.exit_code, status.oom_killed, status.oom_kills, status.reason) == (0, False, 1, "")


# ------------------------------------------------------------------------------------------------ disk


DIRECT = "dd if=/dev/zero of=/file bs={size} count={count} oflag=direct 2>/dev/null; echo written"


def rate(engine: NativeEngine, id: str, counter: str) -> float:
    """Bytes a second from its start to its end."""
    ended(engine, id)
    (final,) = engine.final_readings(id)
    return float(getattr(final.counters, counter)) / (final.finished_at - final.started_at)


@pytest.mark.usefixtures("fast_disk")
def test_bytes_written_a_second(engine: NativeEngine) -> None:
    script = DIRECT.format(size="256k", count=12)
    id = started(engine, "sh", "-c", script, write_bps=2 * MIB)
    assert 0 < rate(engine, id, "block_write_bytes") < 3 * MIB


@pytest.mark.usefixtures("fast_disk")
def test_bytes_read_a_second(engine: NativeEngine) -> None:
    script = "head -c 3000000 /dev/zero > /file; sync; dd if=/file of=/dev/null bs=256k iflag=direct 2>/dev/null"
    id = started(engine, "sh", "-c", script, read_bps=2 * MIB)
    assert 0 < rate(engine, id, "block_read_bytes") < 3 * MIB


@pytest.mark.usefixtures("fast_disk")
def test_writes_a_second(engine: NativeEngine) -> None:
    id = started(engine, "sh", "-c", DIRECT.format(size="4k", count=60), write_iops=30)
    assert 0 < rate(engine, id, "block_write_bytes") < 60 * 4 * KIB, "each of 4 KiB, 30 a second"


@pytest.mark.usefixtures("fast_disk")
def test_reads_a_second(engine: NativeEngine) -> None:
    script = "head -c 245760 /dev/zero > /file; sync; dd if=/file of=/dev/null bs=4k iflag=direct 2>/dev/null"
    id = started(engine, "sh", "-c", script, read_iops=30)
    assert 0 < rate(engine, id, "block_read_bytes") < 60 * 4 * KIB


@pytest.mark.usefixtures("fast_disk")
def test_a_disks_limit_is_changed_and_taken_away_while_it_runs(engine: NativeEngine) -> None:
    id = started(engine, "sleep", "100")
    fields = {"read_bps": 1 * MIB, "write_bps": 2 * MIB, "read_iops": 100, "write_iops": 200}
    plain = engine.isolation(id).cgroup_limits
    engine.controls.update(id, replace(PLAIN, **fields))
    text = " ".join(engine.isolation(id).cgroup_limits.values())
    assert all(str(value) in text for value in fields.values())
    engine.controls.update(id, PLAIN)
    assert engine.isolation(id).cgroup_limits == plain


def test_a_weight_that_the_disk_does_not_know_is_refused(engine: NativeEngine) -> None:
    device = disk.carrying(engine.home.state)
    if device is not None and limits.shared_by_weight(device):
        pytest.skip("this disk is shared by weight")
    with pytest.raises(HostUnfit) as caught:
        started(engine, "true", io_weight=500)
    assert caught.value.field == "limits.io_weight"
    assert engine.list() == ()


@pytest.fixture
def weighed(place: Place, tmp_path: Path) -> Iterator[NativeEngine]:
    """An engine whose home is on a disk of its own, shared by weight: a loop device under bfq."""
    image = tmp_path / "disk"
    image.touch()
    os.truncate(image, 600 * MIB)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    place.home.mkdir()
    attach = ["losetup", "--find", "--show", "--direct-io=on", str(image)]
    device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    queue = Path("/sys/block", device.rsplit("/", 1)[-1], "queue")
    try:
        if "bfq" not in (queue / "scheduler").read_text():
            pytest.skip("this kernel has no bfq")
        (queue / "scheduler").write_text("bfq")
        (queue / "iosched/low_latency").write_text("0")  # else bfq favours what has just begun
        subprocess.run(["mount", device, str(place.home)], check=True)
        engine = NativeEngine(Home.from_environment())
        busybox(engine)
        yield engine
        engine.teardown()
    finally:
        subprocess.run(["umount", "--lazy", str(place.home)], check=False)
        subprocess.run(["losetup", "--detach", device], check=True)


def test_weight_shares_a_busy_disk(weighed: NativeEngine) -> None:
    script = (
        "for i in 1 2 3 4 5 6; do (dd if=/dev/zero of=/f$i bs=1M count=16 oflag=direct; "
        "while :; do dd if=/dev/zero of=/f$i bs=1M count=16 oflag=direct conv=notrunc; done) 2>/dev/null & done; wait"
    )
    light, heavy = (
        started(weighed, "sh", "-c", script, io_weight=weight, memory_bytes=64 * MIB) for weight in (50, 1000)
    )
    time.sleep(1.5)
    before = weighed.counters([light, heavy])
    time.sleep(2.5)
    after = weighed.counters([light, heavy])
    least, most = ((after[id].block_write_bytes or 0) - (before[id].block_write_bytes or 0) for id in (light, heavy))
    assert most > 1.5 * least > 0, "20 to 1, where equals would be 1 to 1"


# ------------------------------------------------------------------------------------------------ update


def test_an_update_is_in_the_kernel_as_a_start_would_put_it(engine: NativeEngine) -> None:
    wanted = Limits(48 * MIB, 700, 40, swap_bytes=16 * MIB if limits.swap_counts() else 0, cpuset="0", cpu_weight=250)
    id = started(engine, "sleep", "100")
    engine.controls.update(id, wanted)
    updated = engine.isolation(id).cgroup_limits
    engine.restart(id, grace_s=patience(10))
    assert engine.isolation(id).cgroup_limits == updated
    engine.controls.update(id, PLAIN)
    lowered = engine.isolation(id).cgroup_limits
    engine.restart(id, grace_s=patience(10))
    assert engine.isolation(id).cgroup_limits == lowered


def test_more_memory_lets_it_live(engine: NativeEngine) -> None:
    id = started(engine, "sh", "-c", f"while [ ! -e /go ]; do sleep 0.05; done; {hungry(44)[2]}")
    engine.controls.update(id, replace(PLAIN, memory_bytes=64 * MIB))
    Path(f"/proc/{engine.inspect(id).pid}/root/go").touch()
    assert ended(engine, id) == ["lived"]


def test_less_memory_than_it_uses_is_refused_and_nobody_is_killed(engine: NativeEngine) -> None:
    id = started(engine, "sh", "-c", "head -c 20000000 /dev/zero > /dev/shm/x; echo up; exec sleep 100")
    assert next(iter(engine.logs(id, follow=True))).text == "up"
    before = engine.isolation(id).cgroup_limits
    with pytest.raises(Conflict, match="MiB of memory now"):
        engine.controls.update(id, replace(PLAIN, memory_bytes=16 * MIB, pids=10))
    assert engine.isolation(id).cgroup_limits == before
    assert (engine.inspect(id).state, engine.inspect(id).oom_kills) == (State.RUNNING, 0)
    assert engine.spec(id).limits == PLAIN


def test_a_limit_that_the_kernel_refuses_takes_the_others_back(engine: NativeEngine) -> None:
    """A cgroup whose last file cannot be written, as by a kernel's rule that we do not know."""
    id = started(engine, "sleep", "100")
    group = engine.home.cgroup("tenant1", id)
    before = engine.isolation(id).cgroup_limits
    was = limits.of_container(PLAIN, None)
    wanted = (
        *limits.of_container(replace(PLAIN, memory_bytes=64 * MIB, pids=9), None),
        limits.Setting("pids.none", "1"),
    )
    with pytest.raises(OSError, match="pids"):
        limits.change(group, wanted, was)
    assert engine.isolation(id).cgroup_limits == before


# ------------------------------------------------------------------------------------------------ tenants


def test_a_tenant_that_burns_everything_leaves_another_its_fair_share(engine: NativeEngine) -> None:
    """One against eight on one processor: among equals it would have a ninth."""
    many = [started(engine, *BUSY, cpuset="0", tenant="greedy") for _ in range(8)]
    one = started(engine, *BUSY, cpuset="0", tenant="modest")
    shares = used(engine, one, *many)
    assert shares[0] > 0.3 * sum(shares), "half is fair"
    engine.controls.limit_tenant("greedy", TenantLimits(cpu_weight=800))
    heavier = used(engine, one, *many)
    assert heavier[0] < 0.25 * sum(heavier), "8 to 1"


def test_a_tenants_processor_time_is_bounded(engine: NativeEngine) -> None:
    first, second = (started(engine, *BUSY, cpu_millis=1000) for _ in range(2))
    engine.controls.limit_tenant("tenant1", TenantLimits(cpu_millis=300))
    assert sum(used(engine, first, second, seconds=2)) < 0.45
    third = started(engine, *BUSY, cpu_millis=1000)
    engine.controls.update(first, replace(PLAIN, cpu_millis=900))
    assert sum(used(engine, first, second, third, seconds=2)) < 0.45
    engine.controls.limit_tenant("tenant1", TenantLimits())
    for id, millis in ((first, 900), (second, 1000), (third, 1000)):
        name = "cpu.max" if cgroup.version() == 2 else "cpu.cfs_quota_us"
        assert engine.isolation(id).cgroup_limits[name].split()[0] == str(millis * 100)


def test_a_tenants_memory_is_bounded_and_the_kill_is_told(engine: NativeEngine) -> None:
    engine.controls.limit_tenant("tenant1", TenantLimits(memory_bytes=40 * MIB))
    holding = started(engine, "sh", "-c", "head -c 20000000 /dev/zero > /dev/shm/x; echo up; exec sleep 100")
    assert next(iter(engine.logs(holding, follow=True))).text == "up"
    wanting = started(engine, *hungry(28))
    ended(engine, wanting)
    assert sum(engine.inspect(id).oom_kills for id in (holding, wanting)) == 1
    if engine.inspect(holding).state is State.RUNNING:
        with pytest.raises(Conflict, match="use more memory"):
            engine.controls.limit_tenant("tenant1", TenantLimits(memory_bytes=8 * MIB))
        assert engine.controls.tenant_limits("tenant1") == TenantLimits(memory_bytes=40 * MIB)


def test_a_tenants_processes_are_bounded(engine: NativeEngine) -> None:
    engine.controls.limit_tenant("tenant1", TenantLimits(pids=8))
    text = ended(engine, started(engine, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait"))
    assert any("fork" in line for line in text)


def test_a_start_that_a_tenants_ceiling_leaves_no_room_for_says_so(engine: NativeEngine) -> None:
    """The OCI runtime says only that its child has ended."""
    started(engine, "sleep", "100")
    engine.controls.limit_tenant("tenant1", TenantLimits(pids=3))
    with pytest.raises(LimitExceeded, match="as many processes as they may have together"):
        started(engine, "sleep", "100")
    engine.controls.limit_tenant("tenant1", TenantLimits())
    started(engine, "sleep", "100")


def test_a_tenants_ceilings_come_back_with_its_cgroup(engine: NativeEngine) -> None:
    """As after a reboot, and when somebody has written something else."""
    engine.controls.limit_tenant("tenant1", TenantLimits(pids=77))
    id = started(engine, "sleep", "100")
    group = cgroup.Cgroup(f"/{engine.home.instance}/tenant1")
    assert group.limits()["pids.max"] == "77"
    folder = Path("/sys/fs/cgroup", "" if cgroup.version() == 2 else "pids", engine.home.instance, "tenant1")
    (folder / "pids.max").write_text("5")
    engine.reconcile()
    assert group.limits()["pids.max"] == "77"
    engine.remove(id, force=True)


def test_a_ceiling_is_laid_just_after_what_had_more_is_gone(place: Place) -> None:
    """The kernel counts a cgroup that was taken away for some milliseconds more."""
    tenant, container = f"/{place.instance}/tenant1", f"/{place.instance}/tenant1/c1"
    cgroup.ensure_parent(container)
    try:
        limits.change(container, limits.of_tenant(None, 1500, None, None))
        cgroup.Cgroup(container).remove()
        limits.change(tenant, limits.of_tenant(None, 1000, None, None))
    finally:
        cgroup.Cgroup(f"/{place.instance}").remove()


def test_a_ceiling_that_comes_amid_an_update_leaves_the_container_its_new_limit(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = started(engine, *BUSY, cpu_millis=400)
    other = NativeEngine(engine.home)
    ceiling = threading.Thread(target=other.controls.limit_tenant, args=("tenant1", TenantLimits(cpu_millis=1000)))

    def amid(point: str) -> None:
        if point == "update.applied":
            ceiling.start()
            ceiling.join(0.5)

    monkeypatch.setattr(resizing, "failpoint", amid)
    engine.controls.update(id, replace(PLAIN, cpu_millis=100))
    ceiling.join()
    assert used(engine, id)[0] < 0.2
