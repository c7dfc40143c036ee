"""What somebody takes away from under a container: it is told, healed or refused, and nothing ever hangs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.api import ContainerSpec, ExecSpec, RestartPolicy, State
from runtime.engines.native import recovery
from runtime.engines.native.engine import NativeEngine
from runtime.errors import EngineFault, OutOfSpace, RuntimeFault
from runtime.home import Home
from runtime.kernel import cgroup, freezer
from runtime.kernel.mount import mount, unmount
from tests.conftest import Place, patience
from tests.kernel.containers import SMALL
from tests.kernel.test_native_engine import engine, spec
from tests.prepared import busybox

__all__ = ["engine"]
pytestmark = pytest.mark.root


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Its result or its fault; a test that hangs fails here."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(work).result(patience(seconds))
    finally:
        pool.shutdown(wait=False)


def running(engine: NativeEngine, **changes: Any) -> str:
    made = replace(spec(engine, "sleep", "100000"), **changes)
    engine.create(made)
    engine.start(made.id)
    return made.id


def supervisor(engine: NativeEngine, id: str) -> int:
    return int((engine.home.conmon(id) / "conmon.pid").read_text())


def gone(pid: int) -> None:
    deadline = time.monotonic() + patience(10)
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_supervisor_is_told_and_its_container_can_be_ended(engine: NativeEngine) -> None:
    id = running(engine)
    os.kill(supervisor(engine, id), signal.SIGKILL)
    gone(supervisor(engine, id))
    found = within(30, engine.reconcile)
    assert len(found.failed) == 1
    assert found.failed[0].startswith(f"{id}: The container's supervisor is gone.")
    assert engine.inspect(id).state is State.RUNNING, "its program may be at work"
    with pytest.raises(RuntimeFault):
        within(20, lambda: engine.attachments.open(id))
    status = within(30, lambda: engine.stop(id, grace_s=1))
    assert (status.state, status.exit_code, status.reason) == (State.EXITED, None, "supervisor lost")
    assert engine.final_readings(id)[0].counters.cpu_ns, "its bill is whole"
    assert within(30, lambda: engine.start(id)).state is State.RUNNING
    within(30, lambda: engine.remove(id, force=True))


def test_a_container_that_ends_while_it_is_reconciled_is_settled(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found running, and dead with its supervisor when that is looked for."""
    id = running(engine)
    real, ended = recovery.supervisor.alive, []

    def looks_late(home: Home, container: str) -> bool:
        if not ended:
            ended.append(container)
            engine.kill(container)
            deadline = time.monotonic() + patience(10)
            while real(home, container):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        return real(home, container)

    monkeypatch.setattr(recovery.supervisor, "alive", looks_late)
    found = engine.reconcile()
    assert (found.failed, found.settled) == ((), (id,))
    assert engine.inspect(id).exit_code == 137


def test_a_supervisor_that_died_with_its_container_has_a_policy_carried_out(engine: NativeEngine) -> None:
    id = running(engine, restart=RestartPolicy("on-failure"))
    pid = engine.inspect(id).pid
    assert pid
    os.kill(supervisor(engine, id), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    status = within(30, lambda: engine.settle(id))
    assert status.restart_at is not None
    time.sleep(max(0.0, status.restart_at - time.time()))
    assert engine.reconcile().restarted == (id,)


def test_a_stopped_supervisor_holds_nobody_up_for_ever(engine: NativeEngine) -> None:
    id = running(engine)
    pid = supervisor(engine, id)
    os.kill(pid, signal.SIGSTOP)
    try:
        status = within(60, lambda: engine.stop(id, grace_s=1))
        assert status.state is State.EXITED
        gone(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    within(30, lambda: engine.remove(id))


def test_the_runtimes_state_is_gone(engine: NativeEngine) -> None:
    id = running(engine)
    shutil.rmtree(engine.home.runc / id)
    with pytest.raises(RuntimeFault):
        within(30, lambda: engine.exec(id, ExecSpec(("true",))))
    assert within(30, engine.reconcile).adopted == (id,)
    assert within(30, lambda: engine.stop(id, grace_s=1)).state is State.EXITED
    assert within(30, lambda: engine.start(id)).state is State.RUNNING
    within(30, lambda: engine.remove(id, force=True))


def test_its_interface_is_gone(engine: NativeEngine) -> None:
    id = running(engine)
    subprocess.run(["ip", "link", "delete", engine.home.veth(id)], check=True)
    found = within(30, engine.reconcile)
    assert found.failed == (f"{id}: The container's network interface is gone. Restart the container.",)
    assert engine.counters([id])[id].net_rx_bytes is None, "not a zero"
    assert within(30, lambda: engine.restart(id, grace_s=1)).state is State.RUNNING
    assert within(30, engine.reconcile).failed == ()
    within(30, lambda: engine.remove(id, force=True))


def test_limits_are_changed_all_or_none_where_its_interface_is_gone(engine: NativeEngine) -> None:
    id = running(engine)
    before = engine.spec(id).limits
    subprocess.run(["ip", "link", "delete", engine.home.veth(id)], check=True)
    wanted = replace(before, memory_bytes=before.memory_bytes + (4 << 20), pids=before.pids + 1)
    group = cgroup.Cgroup(engine.home.cgroup("tenant1", id))
    has = group.limits()
    with pytest.raises(EngineFault, match="interface is gone"):
        within(30, lambda: engine.controls.update(id, replace(wanted, net_rx_bps=1_000_000)))
    assert (group.limits(), engine.spec(id).limits) == (has, before)
    within(30, lambda: engine.controls.update(id, wanted))
    assert group.limits() != has, "its bandwidth is as it was, and nothing else needs an interface"
    assert engine.spec(id).limits == wanted
    within(30, lambda: engine.remove(id, force=True))


def test_its_cgroup_is_gone(engine: NativeEngine) -> None:
    id = running(engine)
    path = engine.home.cgroup("tenant1", id)
    move_away(path)
    within(30, cgroup.Cgroup(path).remove)
    assert id not in engine.counters([id]) or engine.counters([id])[id].cpu_ns is None
    gone = "The container's cgroup is gone: nothing limits or counts it any more. Restart the container."
    assert within(30, engine.reconcile).failed == (f"{id}: {gone}",)
    for verb in (
        lambda: engine.exec(id, ExecSpec(("true",))),
        lambda: engine.controls.pause(id),
        lambda: engine.controls.update(id, replace(SMALL, pids=20)),
    ):
        with pytest.raises(EngineFault, match=re.escape(gone)):
            within(30, verb)
    assert within(30, lambda: engine.stop(id, grace_s=1)).state is State.EXITED
    assert engine.final_readings(id) == (), "what was not counted is not billed as nothing"
    assert within(30, lambda: engine.start(id)).state is State.RUNNING
    within(30, lambda: engine.remove(id, force=True))


def test_one_controllers_cgroup_is_gone(engine: NativeEngine) -> None:
    if cgroup.version() == 2:
        pytest.skip("version 2 has one for all")
    id = running(engine)
    pid = engine.inspect(id).pid
    for name in ("pids", "freezer"):
        (cgroup.ROOT / name / "cgroup.procs").write_text(str(pid))
    assert within(30, engine.reconcile).failed[0].startswith(f"{id}: The container's cgroup is gone")


def move_away(path: str) -> None:
    """A cgroup's processes, into the top of every hierarchy; once more where one that was still there has made another meanwhile."""
    deadline = time.monotonic() + patience(10)
    while left := list(members(path)):
        assert time.monotonic() < deadline, f"{left} stay"
        for root, pid in left:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                (root / "cgroup.procs").write_text(pid)


def members(path: str) -> Iterator[tuple[Path, str]]:
    """Of each hierarchy."""
    for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            yield from ((root, pid) for pid in Path(root, path.lstrip("/"), "cgroup.procs").read_text().split())


@pytest.fixture
def small(place: Place) -> Iterator[Callable[[Path, str], None]]:
    """Puts a file system in memory of its own at a path, until the test is over."""
    mounted: list[Path] = []

    def put(path: Path, options: str) -> None:
        path.mkdir(parents=True, exist_ok=True)
        mount("tmpfs", path, "tmpfs", 0, options)
        mounted.append(path)

    yield put
    for path in reversed(mounted):
        unmount(path, lazy=True)


def test_a_disk_that_turned_read_only(place: Place) -> None:
    made = NativeEngine(Home.from_environment())
    busybox(made)
    id, dead = running(made), running(made)
    other = replace(spec(made, "sleep", "1000"))
    # over what is open already, as a supervisor's log is
    subprocess.run(["mount", "-o", "bind,ro", place.home, place.home], check=True)
    try:
        with pytest.raises(EngineFault):
            within(30, lambda: made.create(other))
        assert made.inspect(id).state is State.RUNNING
        assert made.counters([id])[id].cpu_ns is not None
        with pytest.raises(EngineFault):
            within(30, lambda: made.controls.pause(id))
        assert not freezer.frozen(made.home.cgroup("tenant1", id)), "nobody would know that it stands still"
        with pytest.raises(EngineFault):
            within(30, lambda: made.remove_image("slipway.local/busybox-base:latest"))
        made.kill(dead)
        refused = "The node's kernel refused: Read-only file system. Try again; the node's log has the details."
        assert f"{dead}: {refused}" in within(30, made.reconcile).failed
        with pytest.raises(EngineFault):
            within(60, lambda: made.stop(id, grace_s=1))
    finally:
        subprocess.run(["umount", place.home], check=True)
    within(60, made.reconcile)
    assert made.inspect(id).state is State.EXITED, "once it can be written, the end is"
    assert made.final_readings(id)
    made.teardown()


def test_a_full_run(place: Place, small: Callable[[Path, str], None]) -> None:
    home = Home.from_environment()
    small(home.run, "size=2m,mode=755")
    made = NativeEngine(home)
    busybox(made)
    id = running(made)
    filler = home.run / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"\0" * 4096)
            file.flush()
    other: ContainerSpec = spec(made, "sleep", "1000")
    made.create(other)
    with pytest.raises((OutOfSpace, EngineFault)):
        within(90, lambda: made.start(other.id))
    assert made.inspect(other.id).state is State.CREATED, "nothing half done"
    assert within(60, lambda: made.stop(id, grace_s=1)).state is State.EXITED
    filler.unlink()
    assert within(60, lambda: made.start(other.id)).state is State.RUNNING
    assert within(60, lambda: made.start(id)).state is State.RUNNING
    made.teardown()
