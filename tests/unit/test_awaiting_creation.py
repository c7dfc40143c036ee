"""Who creates a container, as its command line tells: the runtime, and a conmon that has not called it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from runtime.engines.native import supervisor
from runtime.errors import DeadlineExceeded
from runtime.home import Home
from runtime.kernel import cgroup
from runtime.kernel.process import arguments_of, children_of, start_time, status_of
from tests.conftest import Place, patience

ID = "create"
"""A container may be called as the runtime's verb is."""
Program = Callable[..., "subprocess.Popen[bytes]"]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience(5)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def home(place: Place) -> Home:
    return Home.from_environment()


@pytest.fixture
def program(home: Home) -> Iterator[Program]:
    """A shell of the node that runs the script under another name, with the bundle and further words in its command line."""
    made: list[subprocess.Popen[bytes]] = []

    def begin(name: str, script: str, *words: str) -> subprocess.Popen[bytes]:
        command = [name, "-c", script, *words, "--bundle", str(home.bundle(ID))]
        made.append(subprocess.Popen(command, executable="/bin/sh", stdin=subprocess.PIPE))
        until(lambda: arguments_of(made[-1].pid)[:1] == [name.encode()])
        return made[-1]

    yield begin
    for one in made:
        one.send_signal(signal.SIGCONT)
        one.communicate()  # the end of its input ends it


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "CREATE_DEADLINE_S", 0.2)


def test_a_runtime_that_creates_is_waited_for(home: Home, program: Program) -> None:
    supervisor.await_creation(home, ID)
    program("/usr/sbin/runc", "read x", "create")
    with pytest.raises(DeadlineExceeded, match="more than a minute"):
        supervisor.await_creation(home, ID)


def test_a_supervisor_is_waited_for_until_it_has_a_container(
    home: Home, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is in no container's cgroup is the runtime, which may have no command line in the moment of its start."""
    conmon = program("/usr/bin/conmon", "exec 3<&0; read x; cat <&3 & wait", "--cid", ID)
    with pytest.raises(DeadlineExceeded, match="more than a minute"):
        supervisor.await_creation(home, ID)
    assert conmon.stdin
    conmon.stdin.write(b"\n")
    conmon.stdin.flush()
    until(lambda: [arguments_of(child) for child in children_of(conmon.pid)] == [[b"cat", b""]])
    with pytest.raises(DeadlineExceeded, match="more than a minute"):
        supervisor.await_creation(home, ID)
    (child,) = children_of(conmon.pid)
    place = home.cgroup("tenant1", ID)
    monkeypatch.setattr(cgroup, "place_of", lambda pid: place if pid == child else "/")
    supervisor.await_creation(home, ID)


def stopped(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: process_state(process) == "T")


def process_state(process: subprocess.Popen[bytes]) -> str:
    return status_of(process.pid)["State"][:1]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough for a look at what does not move."""
    monkeypatch.setattr(supervisor, "CREATE_DEADLINE_S", patience(5))
    monkeypatch.setattr(supervisor, "STILL_S", 0.1)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("script", ["read x", "true & exec 3<&0; read x"], ids=["nothing begun", "all over"])
def test_a_supervisor_that_somebody_stopped_is_ended_where_it_has_nothing_to_wait_for(
    home: Home, program: Program, script: str
) -> None:
    conmon = program("/usr/bin/conmon", script, "--cid", ID)
    until(lambda: all(start_time(child) is None for child in children_of(conmon.pid)))
    stopped(conmon)
    supervisor.await_creation(home, ID)
    assert conmon.wait(patience(5)) == -signal.SIGKILL


@pytest.mark.usefixtures("patient")
def test_a_supervisor_that_somebody_stopped_is_let_be_while_its_runtime_works(
    home: Home, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CREATE_DEADLINE_S", 0.5)
    conmon = program("/usr/bin/conmon", "exec 3<&0; cat <&3 & wait", "--cid", ID)
    until(lambda: [arguments_of(child) for child in children_of(conmon.pid)] == [[b"cat", b""]])
    stopped(conmon)
    with pytest.raises(DeadlineExceeded, match="more than a minute"):
        supervisor.await_creation(home, ID)
    assert process_state(conmon) == "T"
