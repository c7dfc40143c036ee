"""The contract of runtime.api.Engine, held against every engine through its own verbs."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import ContainerSpec, Engine, ExecSpec, Limits, Port, State
from runtime.engines import open_engine
from runtime.errors import Conflict, InvalidSpec, LimitExceeded, NotFound
from runtime.home import Home
from tests.conftest import patience
from tests.marks import no_cgroup, records_only, refused_early
from tests.prepared import busybox
from tests.traces import traces

Make = Callable[..., ContainerSpec]
FOREVER = ("sleep", "100000")


@pytest.fixture(params=["fake", pytest.param("native", marks=pytest.mark.root)])
def engine(request: pytest.FixtureRequest, tmp_path: Path, subnets: str) -> Iterator[Engine]:
    home = Home(tmp_path, f"t{secrets.token_hex(4)}", subnets, 0x60000000)
    made = open_engine(request.param, home)
    busybox(made)
    before = traces(home)
    yield made
    made.teardown()
    left = traces(home)
    for kind in ("mounts", "cgroups", "interfaces", "processes"):
        assert not getattr(left, kind) - getattr(before, kind), f"{kind} left behind"


@pytest.fixture
def make(engine: Engine) -> Make:
    def spec(**changes: object) -> ContainerSpec:
        id = "c" + secrets.token_hex(6)
        plain = ContainerSpec(
            id=id, tenant="tenant1", name=id, image=engine.image("busybox").id, command=FOREVER,
            limits=Limits(memory_bytes=32 << 20, cpu_millis=500, pids=32),
        )  # fmt: skip
        return replace(plain, **changes)  # type: ignore[arg-type]

    return spec


def run(engine: Engine, spec: ContainerSpec) -> str:
    engine.create(spec)
    engine.start(spec.id)
    return spec.id


def ended(engine: Engine, id: str) -> None:
    deadline = time.monotonic() + patience(15)
    while engine.settle(id).state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_states_of_a_life(engine: Engine, make: Make) -> None:
    spec = make()
    assert engine.create(spec).state is State.CREATED
    running = engine.start(spec.id)
    assert (running.state, running.epoch) == (State.RUNNING, 1)
    assert running.address
    exited = engine.stop(spec.id, grace_s=0.2)
    assert exited.state is State.EXITED
    assert exited.exit_code is not None
    assert engine.start(spec.id).epoch == 2
    engine.remove(spec.id, force=True)
    with pytest.raises(NotFound):
        engine.inspect(spec.id)


@no_cgroup
def test_a_stop_is_by_its_own_signal(engine: Engine, make: Make) -> None:
    assert engine.stop(run(engine, make(stop_signal="SIGINT")), grace_s=patience(10)).exit_code == 128 + 2


@refused_early
@pytest.mark.parametrize("grace_s", [-1.0, 3600.1, float("inf"), float("nan")])
def test_a_grace_that_cannot_be_ends_nothing(engine: Engine, make: Make, grace_s: float) -> None:
    id = run(engine, make())
    for verb in (engine.stop, engine.restart):
        with pytest.raises(InvalidSpec) as caught:
            verb(id, grace_s=grace_s)
        assert caught.value.field == "grace_s"
    assert (engine.inspect(id).state, engine.inspect(id).epoch) == (State.RUNNING, 1)


def test_twice_is_once(engine: Engine, make: Make) -> None:
    spec = make()
    assert engine.create(spec) == engine.create(spec)
    assert engine.start(spec.id).epoch == engine.start(spec.id).epoch == 1
    engine.stop(spec.id, grace_s=0.2)
    assert engine.stop(spec.id).state is State.EXITED
    engine.remove(spec.id)
    engine.remove(spec.id)


@no_cgroup
def test_an_exit_code_is_kept(engine: Engine, make: Make) -> None:
    id = run(engine, make(command=("false",)))
    ended(engine, id)
    assert engine.inspect(id).exit_code == 1


def test_a_kill_tells_its_signal(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    engine.kill(id, "SIGKILL")
    ended(engine, id)
    assert engine.inspect(id).exit_code == 137
    with pytest.raises(Conflict):
        engine.kill(id)


@no_cgroup
def test_removing_what_runs_wants_force(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    with pytest.raises(Conflict):
        engine.remove(id)
    engine.remove(id, force=True)


@refused_early
@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"id": "../x"}, InvalidSpec, "id"),
        ({"name": "No Spaces"}, InvalidSpec, "name"),
        ({"env": {"1X": "y"}}, InvalidSpec, "env.1X"),
        ({"env": {"X": "a\0b"}}, InvalidSpec, "env.X"),
        ({"working_dir": "relative"}, InvalidSpec, "working_dir"),
        ({"limits": Limits(memory_bytes=1)}, InvalidSpec, "limits.memory_bytes"),
        ({"limits": Limits(memory_bytes=1 << 60)}, LimitExceeded, "limits.memory_bytes"),
        ({"limits": Limits(cpu_millis=10_000_000)}, LimitExceeded, "limits.cpu_millis"),
        ({"ports": (Port(0),)}, InvalidSpec, "ports[0].container_port"),
        ({"ports": (Port(80, host_port=0),)}, InvalidSpec, "ports[0].host_port"),
        ({"ports": (Port(80, host_port=9), Port(81, host_port=9))}, InvalidSpec, "ports[1].host_port"),
        ({"ports": (Port(80, host_from=9, host_to=8),)}, InvalidSpec, "ports[0].host_from"),
        ({"ports": (Port(80, host_from=0, host_to=8),)}, InvalidSpec, "ports[0].host_from"),
        ({"ports": (Port(80, host_from=8, host_to=65536),)}, InvalidSpec, "ports[0].host_from"),
        ({"image": "sha256:" + "0" * 64}, NotFound, "image"),
    ],
)
def test_a_bad_spec_names_its_field(
    engine: Engine, make: Make, changes: dict[str, object], kind: type[Exception], field: str
) -> None:
    spec = make(**changes)
    with pytest.raises(kind) as caught:
        engine.create(spec)
    assert caught.value.field == field  # type: ignore[attr-defined]
    assert engine.list() == ()


@no_cgroup
def test_a_command_that_is_not_there(engine: Engine, make: Make) -> None:
    spec = make(command=("no-such-command",))
    engine.create(spec)
    with pytest.raises(InvalidSpec) as caught:
        engine.start(spec.id)
    assert caught.value.field == "command"
    assert engine.inspect(spec.id).state is State.CREATED


@no_cgroup
def test_a_port_belongs_to_one(engine: Engine, make: Make) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    first = run(engine, make(ports=(Port(80, host_port=free),)))
    second = make(ports=(Port(80, host_port=free),))
    engine.create(second)
    with pytest.raises(Conflict) as caught:
        engine.start(second.id)
    assert caught.value.field == "ports[0].host_port"
    engine.remove(first, force=True)
    assert engine.start(second.id).ports[0].host_port == free


def consecutive_free() -> tuple[int, int]:
    """Two ports in a row, at least at this moment."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", one.getsockname()[1] + 1))
                return one.getsockname()[1], other.getsockname()[1]


@no_cgroup
def test_a_port_is_chosen_from_those_that_are_asked_for(engine: Engine, make: Make) -> None:
    low, high = consecutive_free()
    among = Port(80, host_from=low, host_to=high)
    for fixed, chosen in ((low, high), (high, low)):
        id = run(engine, make(ports=(among, Port(81, host_port=fixed))))
        assert [port.host_port for port in engine.inspect(id).ports] == [chosen, fixed]
        spec = engine.create(make(ports=(among,)))
        with pytest.raises(Conflict) as caught:
            engine.start(spec.id)
        assert caught.value.field == "ports[0]"
        engine.remove(id, force=True)
        assert engine.start(spec.id).ports[0].host_port in {low, high}
        engine.remove(spec.id, force=True)


@no_cgroup
def test_a_port_that_another_program_has(engine: Engine, make: Make) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        spec = make(ports=(Port(80, host_port=other.getsockname()[1]),))
        engine.create(spec)
        with pytest.raises(Conflict):
            engine.start(spec.id)


@records_only
def test_a_name_belongs_to_one_container_of_a_tenant(engine: Engine, make: Make) -> None:
    engine.create(make(name="web"))
    with pytest.raises(Conflict) as caught:
        engine.create(make(name="web"))
    assert caught.value.field == "name"
    engine.create(make(name="web", tenant="tenant2"))


@records_only
def test_an_id_with_another_spec(engine: Engine, make: Make) -> None:
    spec = make()
    engine.create(spec)
    with pytest.raises(Conflict):
        engine.create(replace(spec, command=("sleep", "1")))


def test_exec_answers_with_output_and_code(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    session = engine.exec(id, ExecSpec(("echo", "hello")))
    assert session.stdout.read() == b"hello\n"
    assert session.wait(patience(10)) == 0
    session.close()
    with pytest.raises(InvalidSpec):
        engine.exec(id, ExecSpec(("no-such-command",)))


@no_cgroup
def test_exec_with_a_terminal(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    session = engine.exec(id, ExecSpec(("sh",), terminal=True, columns=100, rows=30))
    session.resize(120, 40)
    session.stdin.write(b"exit 5\n")
    assert session.wait(patience(10)) == 5
    session.close()


@no_cgroup
def test_exec_by_a_user_who_is_not_there(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    with pytest.raises(InvalidSpec) as caught:
        engine.exec(id, ExecSpec(("true",), user="nosuchuser"))
    assert caught.value.field == "user"
    for user in ("nobody", "12", "12:34"):
        with contextlib.closing(engine.exec(id, ExecSpec(("true",), user=user))) as session:
            assert session.wait(patience(20)) == 0


def test_exec_wants_a_running_container(engine: Engine, make: Make) -> None:
    spec = make()
    engine.create(spec)
    with pytest.raises(Conflict):
        engine.exec(spec.id, ExecSpec(("sh",)))


def test_final_readings_wait_to_be_acknowledged(engine: Engine, make: Make) -> None:
    spec = make()
    run(engine, spec)
    engine.stop(spec.id, grace_s=0.2)
    engine.start(spec.id)
    engine.remove(spec.id, force=True)
    readings = engine.final_readings(spec.id)
    assert [reading.epoch for reading in readings] == [1, 2]
    assert all(reading.counters.cpu_ns for reading in readings)
    assert readings == engine.final_readings(spec.id)
    engine.acknowledge(readings[0])
    engine.acknowledge(readings[0])
    assert [reading.epoch for reading in engine.final_readings()] == [2]


def test_each_start_tells_its_boot_time_and_so_does_its_final_reading(engine: Engine, make: Make) -> None:
    """What an epoch is measured from: the wall clock may be set before anybody reads its counters."""
    spec = make()
    engine.create(spec)
    told = []
    for _ in range(2):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        status = engine.start(spec.id)
        assert status.started_boottime_ns is not None
        assert before <= status.started_boottime_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        told.append(status.started_boottime_ns)
        engine.stop(spec.id, grace_s=0.2)
    assert [reading.started_boottime_ns for reading in engine.final_readings(spec.id)] == told


def test_counters_only_of_what_runs(engine: Engine, make: Make) -> None:
    first, second = run(engine, make()), run(engine, make())
    engine.stop(second, grace_s=0.2)
    assert set(engine.counters()) == {first}
    before = engine.counters([first])[first]
    after = engine.counters([first])[first]
    assert before.cpu_ns is not None
    assert after.cpu_ns is not None
    assert after.cpu_ns >= before.cpu_ns
    assert after.boottime_ns > before.boottime_ns


def test_isolation_is_told_of_what_runs(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    report = engine.isolation(id)
    assert report.seccomp
    assert report.no_new_privileges
    assert report.uid_map[0][1] >= 0x60000000
    assert {"lower", "upper", "merged"} <= {layer.role for layer in report.layers}
    engine.stop(id, grace_s=0.2)
    with pytest.raises(Conflict):
        engine.isolation(id)


def test_another_process_sees_the_same(engine: Engine, make: Make, tmp_path: Path) -> None:
    id = run(engine, make())
    home: Home = engine.home  # type: ignore[attr-defined]
    other = open_engine(
        engine.name, replace(Home(tmp_path), instance=home.instance, subnets=home.subnets, uid_base=home.uid_base)
    )
    assert other.inspect(id) == engine.inspect(id)
    assert id in other.reconcile().adopted
    other.stop(id, grace_s=0.2)
    assert engine.inspect(id).state is State.EXITED


@no_cgroup
def test_many_at_once(engine: Engine, make: Make) -> None:
    specs = [make(ports=(Port(80),)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda spec: run(engine, spec), specs))
        ports = {engine.inspect(id).ports[0].host_port for id in ids}
        assert len(ports) == len({engine.inspect(id).address for id in ids}) == 8
        list(pool.map(lambda id: engine.remove(id, force=True), ids))
    assert engine.list() == ()
