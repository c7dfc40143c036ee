"""What a container says of itself keeps nobody from removing it, and what is gone of its files neither."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engines.native import supervisor
from runtime.engines.native.engine import NativeEngine
from runtime.errors import NotFound
from runtime.kernel.process import arguments_of, pids, start_time
from tests.conftest import patience
from tests.kernel.containers import engine, run, spec
from tests.marks import no_cgroup

__all__ = ["engine"]
pytestmark = [pytest.mark.root, no_cgroup]


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "CREATE_DEADLINE_S", patience(5))


def damage(engine: NativeEngine, id: str) -> None:
    (engine.home.container(id) / "status.json").write_text("{")


def liars(words: tuple[str, ...]) -> Iterator[int]:
    wanted = [word.encode() for word in words]
    return (pid for pid in pids() if arguments_of(pid)[3:5] == wanted)


@pytest.mark.parametrize("of", ["itself", "another"])
def test_a_process_that_calls_itself_the_runtime_holds_up_no_removal(engine: NativeEngine, of: str) -> None:
    """Its own container's, and another's, which may have been told of the place."""
    victim, other = spec(engine), spec(engine, tenant="tenant2")
    words = (str(engine.home.bundle(victim.id)), "create")
    lying = ("sh", "-c", 'sh -c "sleep 1000; :" "$@" & sh -c "sleep 1000; :" conmon "$@" & wait', "sh", *words)
    id = run(engine, spec(engine, *(lying if of == "itself" else ()), id=victim.id, name=victim.name))
    if of == "another":
        run(engine, spec(engine, *lying, id=other.id, name=other.name, tenant="tenant2"))
    deadline = time.monotonic() + patience(10)
    while not any(liars(words)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    supervisor.await_creation(engine.home, id)
    damage(engine, id)
    engine.remove(id, force=True)
    with pytest.raises(NotFound):
        engine.inspect(id)


def test_one_whose_pid_nobody_knows_any_more_is_removed(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    pid = int((engine.home.conmon(id) / "pid").read_text())
    (engine.home.conmon(id) / "pid").unlink()
    damage(engine, id)
    engine.remove(id, force=True)
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(NotFound):
        engine.inspect(id)


def ended(pid: int) -> None:
    deadline = time.monotonic() + patience(10)
    while start_time(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("gone", [("pid",), ("pid", "conmon.pid"), ("conmon.pid",)])
def test_a_supervisor_that_somebody_stopped_does_not_outlive_its_container(
    engine: NativeEngine, gone: tuple[str, ...]
) -> None:
    """It has not seen the end, and nobody has its pid any more."""
    id = run(engine, spec(engine))
    first, conmon = (int((engine.home.conmon(id) / name).read_text()) for name in ("pid", "conmon.pid"))
    os.kill(conmon, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    ended(first)
    for name in gone:
        (engine.home.conmon(id) / name).unlink()
    damage(engine, id)
    engine.remove(id, force=True)
    with pytest.raises(NotFound):
        engine.inspect(id)
    ended(conmon)
