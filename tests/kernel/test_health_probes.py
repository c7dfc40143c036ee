"""Health checks of real containers: by command, HTTP and TCP from within, and never anything left of one."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import ContainerSpec, HealthCheck, Outcome
from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.health import MARK
from runtime.errors import Conflict
from runtime.kernel import cgroup
from runtime.network import probing
from tests.conftest import patience
from tests.kernel.test_native_engine import engine, spec
from tests.marks import no_cgroup

__all__ = ["engine"]
pytestmark = [pytest.mark.root, no_cgroup]


def started(engine: NativeEngine, made: ContainerSpec, check: HealthCheck) -> str:
    engine.create(replace(made, health=check))
    engine.start(made.id)
    return made.id


def processes(engine: NativeEngine, id: str) -> list[bytes]:
    group = cgroup.Cgroup(engine.home.cgroup("tenant1", id))
    return [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ") for pid in group.procs()]


def first(engine: NativeEngine, id: str) -> bool:
    """Whether it is well within a while: its program has to begin first."""
    deadline = time.monotonic() + patience(10)
    while time.monotonic() < deadline:
        if engine.health.probe(id).ok:
            return True
        time.sleep(0.1)
    return False


SERVE = "echo ok > /tmp/index.html; exec httpd -f -p {} -h /tmp"


@pytest.mark.parametrize("listen", ["80", "127.0.0.1:80", "$(hostname -i):80"])
def test_a_server_is_asked_from_within(engine: NativeEngine, listen: str) -> None:
    made = spec(engine, "sh", "-c", SERVE.format(listen))
    id = started(engine, made, HealthCheck("http", port=80, path="/index.html", timeout_s=5))
    assert first(engine, id)
    engine.remove(id, force=True)


def test_http_and_tcp_tell_why(engine: NativeEngine) -> None:
    id = started(engine, spec(engine, "sh", "-c", SERVE.format("80")), HealthCheck("http", port=80, path="/none"))
    deadline = time.monotonic() + patience(10)
    while "404" not in engine.health.probe(id).output:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    other = started(engine, spec(engine, "sleep", "1000"), HealthCheck("tcp", port=81))
    assert engine.health.probe(other).output == "Connection refused"


@pytest.fixture
def nowhere() -> Iterator[Path]:
    """A network namespace in which the kernel knows no way to any address, not even to itself."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        yield Path(f"/proc/{holder.pid}/ns/net")
        holder.kill()


@pytest.mark.parametrize("address", [None, "10.1.2.3"])
def test_what_the_kernel_refuses_at_once_is_no_connection(nowhere: Path, address: str | None) -> None:
    patient = probing.Patience(patience(10), lambda: False)
    unreachable = os.strerror(errno.ENETUNREACH)
    assert probing.tcp(nowhere, address, 80, patient) == Outcome(False, unreachable)
    assert probing.http(nowhere, address, 80, "/", patient) == Outcome(False, unreachable)
    assert patient.step(), "it was told at once"


def test_a_command_tells_its_code_and_its_words(engine: NativeEngine) -> None:
    shell = ("sh", "-c", "echo said; test -e /tmp/well")
    id = started(engine, spec(engine, "sleep", "1000"), HealthCheck("command", shell))
    assert engine.health.probe(id) == replace(engine.health.probe(id), ok=False, output="said")
    with_file = started(
        engine, spec(engine, "sh", "-c", "touch /tmp/well; exec sleep 1000"), HealthCheck("command", shell)
    )
    assert first(engine, with_file)


def test_a_command_that_is_not_there_is_a_failure_that_says_so(engine: NativeEngine) -> None:
    id = started(engine, spec(engine, "sleep", "1000"), HealthCheck("command", ("no-such-command",)))
    outcome = engine.health.probe(id)
    assert not outcome.ok
    assert "no-such-command" in outcome.output


@pytest.mark.parametrize(
    "script",
    [
        "sleep 3000",
        "trap '' HUP TERM INT; sleep 3000",
        "setsid sh -c 'trap \"\" HUP; sleep 3000' & sleep 3000",
        "(setsid sleep 3000 &) ; echo gone",
        "while :; do echo flood; done",
    ],
)
def test_nothing_outlives_a_check(engine: NativeEngine, script: str) -> None:
    check = HealthCheck("command", ("sh", "-c", script), timeout_s=patience(1))
    id = started(engine, spec(engine, "sleep", "9999"), check)
    began = time.monotonic()
    outcome = engine.health.probe(id)
    assert outcome.ok is script.endswith("gone")
    assert time.monotonic() - began < patience(30), "it came to an end"
    left = processes(engine, id)
    assert not [one for one in left if b"3000" in one or b"flood" in one or MARK.encode() in one], left
    assert any(b"9999" in one for one in left), "the container's own go on"


def test_a_check_that_nobody_waits_for_is_given_up(engine: NativeEngine) -> None:
    check = HealthCheck("command", ("sleep", "3000"), timeout_s=300)
    id = started(engine, spec(engine, "sleep", "9999"), check)
    assert not engine.health.probe(id, given_up=lambda: True).ok
    assert not [one for one in processes(engine, id) if b"3000" in one]


def test_a_check_that_a_pause_held_up_is_no_failure(engine: NativeEngine) -> None:
    id = started(engine, spec(engine, "sleep", "9999"), HealthCheck("command", ("sleep", "3000"), timeout_s=3))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.health.probe, id)
        deadline = time.monotonic() + patience(20)
        while not [one for one in processes(engine, id) if b"3000" in one]:
            assert time.monotonic() < deadline
            assert not asked.done()
        engine.controls.pause(id)
        with pytest.raises(Conflict):
            asked.result()
    engine.controls.resume(id)
    deadline = time.monotonic() + patience(20)
    while [one for one in processes(engine, id) if b"3000" in one]:
        assert time.monotonic() < deadline, "nothing of it is left once it may end"
