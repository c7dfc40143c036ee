"""The contract of runtime.api.Controls, held against every engine."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import Capability, ContainerSpec, Engine, ExecSpec, Limits, State, TenantLimits
from runtime.cli.containers import FOREVER_S
from runtime.engines import open_engine
from runtime.errors import Conflict, DeadlineExceeded, InvalidSpec, LimitExceeded, NotFound
from runtime.home import Home
from tests.conftest import patience
from tests.marks import no_cgroup, records_only, refused_early
from tests.prepared import busybox

pytestmark = pytest.mark.root
MIB = 2**20
SMALL = Limits(memory_bytes=32 * MIB, cpu_millis=500, pids=32)
LARGE = replace(SMALL, memory_bytes=64 * MIB, cpu_millis=1000, pids=64)


@pytest.fixture(params=["fake", "native"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, subnets: str) -> Iterator[Engine]:
    home = Home(tmp_path, f"t{secrets.token_hex(4)}", subnets, 0x60000000)
    made = open_engine(request.param, home)
    busybox(made)
    assert Capability.CONTROLS in made.capabilities
    yield made
    made.teardown()


@pytest.fixture
def make(engine: Engine) -> Callable[[str], str]:
    def created(name: str) -> str:
        id = "c" + secrets.token_hex(6)
        image = engine.image("busybox").id
        engine.create(ContainerSpec(id, "tenant1", name, image, command=("sleep", "100000"), limits=SMALL))
        return id

    return created


@pytest.fixture
def id(engine: Engine, make: Callable[[str], str]) -> str:
    """Of a running container named ``web``."""
    made = make("web")
    engine.start(made)
    return made


def other(engine: Engine) -> Engine:
    """As another process has it over the same home."""
    home: Home = engine.home  # type: ignore[attr-defined]
    root = home.root if engine.name == "native" else home.root.parent
    return open_engine(engine.name, Home(root, home.instance, home.subnets, home.uid_base))


# ------------------------------------------------------------------------------------------------ pause


def test_a_paused_container_runs_and_says_so(engine: Engine, id: str) -> None:
    assert engine.controls.pause(id).paused
    assert engine.controls.pause(id).paused, "twice is once"
    for status in (engine.inspect(id), engine.list()[0], other(engine).inspect(id)):
        assert (status.state, status.paused) == (State.RUNNING, True)
    assert other(engine).reconcile().adopted == (id,)
    assert engine.inspect(id).paused
    with pytest.raises(Conflict):
        engine.exec(id, ExecSpec(("true",)))
    assert not engine.controls.resume(id).paused
    assert not engine.controls.resume(id).paused
    engine.exec(id, ExecSpec(("true",))).close()


def test_what_is_paused_can_be_ended_like_what_is_not(engine: Engine, id: str) -> None:
    engine.controls.pause(id)
    stopped = engine.stop(id, grace_s=patience(10))
    assert (stopped.state, stopped.paused) == (State.EXITED, False)
    engine.start(id)
    engine.controls.pause(id)
    engine.kill(id, "SIGKILL")
    assert engine.controls.wait(id, patience(10)).exit_code == 137
    engine.start(id)
    engine.controls.pause(id)
    restarted = engine.restart(id, grace_s=patience(10))
    assert (restarted.state, restarted.paused, restarted.epoch) == (State.RUNNING, False, 4)
    engine.controls.pause(id)
    engine.remove(id, force=True)
    assert engine.list() == ()


def test_a_signal_waits_for_the_resumption(engine: Engine, id: str) -> None:
    engine.controls.pause(id)
    engine.kill(id, "SIGTERM")
    assert engine.inspect(id).state is State.RUNNING
    with pytest.raises(DeadlineExceeded):
        engine.controls.wait(id, 0.1)


def test_what_does_not_run_is_not_paused(engine: Engine, make: Callable[[str], str]) -> None:
    made = make("still")
    for verb in (engine.controls.pause, engine.controls.resume, engine.controls.top):
        with pytest.raises(Conflict):
            verb(made)
        with pytest.raises(NotFound):
            verb("cnobody")


# ------------------------------------------------------------------------------------------------ signals


@no_cgroup
@pytest.mark.parametrize("name", ["9", "KILL", "sigkill", "RTMIN+3", "sigrtmax-1", "37"])
def test_any_signal_is_sent(engine: Engine, id: str, name: str) -> None:
    engine.kill(id, name)
    assert (engine.controls.wait(id, patience(10)).exit_code or 0) > 128


@no_cgroup
def test_a_signal_that_a_program_need_not_hear_ends_nothing(engine: Engine, id: str) -> None:
    engine.kill(id, "SIGWINCH")
    with pytest.raises(DeadlineExceeded):
        engine.controls.wait(id, 0.2)


@no_cgroup
def test_who_waits_for_ever_is_told_the_end(engine: Engine, id: str) -> None:
    """As the command line's ``wait`` does, which says no time."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.controls.wait, id, FOREVER_S)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        engine.kill(id)
        assert waiting.result(patience(20)).exit_code == 137


@refused_early
@pytest.mark.parametrize("name", ["0", "65", "32", "", "NONE", "RTMIN+99", "TERM+1", "-9"])
def test_what_is_no_signal_is_refused(engine: Engine, id: str, name: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        engine.kill(id, name)
    assert caught.value.field == "signal"


# ------------------------------------------------------------------------------------------------ limits


def test_new_limits_are_remembered_with_their_time(engine: Engine, id: str) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    status = engine.controls.update(id, LARGE)
    assert engine.spec(id).limits == LARGE
    assert status.limits_at_start == SMALL
    (size,) = status.sizes
    assert size.limits == LARGE
    assert before <= size.boottime_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert engine.controls.update(id, LARGE).sizes == (size,), "nothing changed"
    engine.controls.update(id, SMALL)
    assert other(engine).inspect(id) == engine.inspect(id)
    engine.stop(id, grace_s=patience(10))
    (final,) = engine.final_readings(id)
    assert (final.limits, [one.limits for one in final.sizes]) == (SMALL, [LARGE, SMALL])
    again = engine.start(id)
    assert (again.limits_at_start, again.sizes) == (SMALL, ())


def test_limits_of_what_is_stopped_hold_from_its_start(engine: Engine, make: Callable[[str], str]) -> None:
    made = make("still")
    wanted = replace(LARGE, log_bytes=1 * MIB)
    engine.controls.update(made, wanted)
    status = engine.start(made)
    assert (engine.spec(made).limits, status.limits_at_start, status.sizes) == (wanted, wanted, ())


@refused_early
@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"memory_bytes": 1}, InvalidSpec, "limits.memory_bytes"),
        ({"memory_bytes": 1 << 60}, LimitExceeded, "limits.memory_bytes"),
        ({"cpu_millis": 10_000_000}, LimitExceeded, "limits.cpu_millis"),
        ({"log_bytes": 1 * MIB}, InvalidSpec, "limits.log_bytes"),
        ({"cpuset": "0,x"}, InvalidSpec, "limits.cpuset"),
        ({"cpuset": "9999"}, LimitExceeded, "limits.cpuset"),
        ({"cpuset": "1-0"}, LimitExceeded, "limits.cpuset"),
        ({"cpu_weight": 0}, InvalidSpec, "limits.cpu_weight"),
        ({"io_weight": 1001}, InvalidSpec, "limits.io_weight"),
        ({"swap_bytes": -1}, InvalidSpec, "limits.swap_bytes"),
        ({"read_bps": 1}, InvalidSpec, "limits.read_bps"),
        ({"write_iops": 0}, InvalidSpec, "limits.write_iops"),
        ({"pids": 1}, InvalidSpec, "limits.pids"),
    ],
)
def test_limits_that_cannot_be_change_nothing(
    engine: Engine, id: str, changes: dict[str, int], kind: type[Exception], field: str
) -> None:
    with pytest.raises(kind) as caught:
        engine.controls.update(id, replace(SMALL, **changes))
    assert caught.value.field == field  # type: ignore[attr-defined]
    assert (engine.spec(id).limits, engine.inspect(id).sizes) == (SMALL, ())


# ------------------------------------------------------------------------------------------------ name, wait, top


@records_only
def test_a_name_is_changed_and_the_old_one_is_free(engine: Engine, id: str, make: Callable[[str], str]) -> None:
    assert engine.controls.rename(id, "shop").name == "shop"
    assert engine.controls.rename(id, "shop").name == "shop"
    assert other(engine).inspect(id).name == "shop"
    assert engine.inspect(make("web")).name == "web"
    with pytest.raises(Conflict) as caught:
        engine.controls.rename(id, "web")
    assert caught.value.field == "name"
    with pytest.raises(InvalidSpec):
        engine.controls.rename(id, "No Name")
    assert engine.inspect(id).name == "shop"


def test_waiting_ends_with_the_container(engine: Engine, id: str) -> None:
    with pytest.raises(DeadlineExceeded):
        engine.controls.wait(id, 0.05)
    later = threading.Timer(0.2, engine.stop, (id,))
    later.start()
    assert engine.controls.wait(id, patience(20)).state is State.EXITED
    later.join()
    assert engine.controls.wait(id, 0).state is State.EXITED, "what has ended is not waited for"


def test_its_processes_are_told(engine: Engine, id: str) -> None:
    first, *_ = engine.controls.top(id)
    assert (first.pid, first.user) == (1, "root")
    assert first.node_pid != 1
    assert "sleep 100000" in first.command


# ------------------------------------------------------------------------------------------------ tenants


def test_a_tenants_ceilings_are_remembered_and_taken_away(engine: Engine, id: str) -> None:
    ceilings = TenantLimits(memory_bytes=64 * MIB, cpu_millis=200, cpu_weight=300, pids=50)
    assert engine.controls.tenant_limits("tenant1") == TenantLimits()
    engine.controls.limit_tenant("tenant1", ceilings)
    engine.controls.limit_tenant("unseen", TenantLimits(pids=9))
    assert other(engine).controls.tenant_limits("tenant1") == ceilings
    engine.restart(id, grace_s=patience(10))
    engine.controls.update(id, LARGE)
    engine.controls.limit_tenant("tenant1", TenantLimits())
    assert engine.controls.tenant_limits("tenant1") == TenantLimits()


@refused_early
@pytest.mark.parametrize(
    ("limits", "field"),
    [
        (TenantLimits(memory_bytes=1), "memory_bytes"), (TenantLimits(cpu_millis=0), "cpu_millis"),
        (TenantLimits(cpu_weight=0), "cpu_weight"), (TenantLimits(pids=1), "pids"),
    ],
)  # fmt: skip
def test_a_ceiling_that_cannot_be_names_its_field(engine: Engine, limits: TenantLimits, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        engine.controls.limit_tenant("tenant1", limits)
    assert caught.value.field == field
    with pytest.raises(InvalidSpec):
        engine.controls.limit_tenant("../etc", TenantLimits())


# ------------------------------------------------------------------------------------------------ events


def test_what_was_done_is_an_event_once(engine: Engine, id: str) -> None:
    last = engine.events.last()
    for _ in range(2):
        engine.controls.pause(id)
    for _ in range(2):
        engine.controls.resume(id)
    for _ in range(2):
        engine.controls.update(id, LARGE)
        engine.controls.rename(id, "shop")
    told = [(event.kind, event.name) for event in engine.events.read(after=last, subject=id)]
    assert told == [("paused", "web"), ("resumed", "web"), ("updated", "web"), ("renamed", "shop")]
