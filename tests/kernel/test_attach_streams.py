"""Attaching to real containers: streams, terminals, an input that ends, and a reader that does not read."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import AttachSession, ContainerSpec, State
from runtime.engines.native import attach
from runtime.engines.native.engine import NativeEngine
from runtime.errors import DeadlineExceeded
from tests.conformance.test_attach import until
from tests.conftest import patience
from tests.kernel.containers import inside
from tests.kernel.test_native_engine import engine, spec
from tests.marks import no_cgroup

__all__ = ["engine"]
pytestmark = [pytest.mark.root, no_cgroup]
SOURCE = Path(__file__).parents[2]


def started(engine: NativeEngine, made: ContainerSpec) -> str:
    engine.create(made)
    engine.start(made.id)
    return made.id


def opened(engine: NativeEngine, made: ContainerSpec) -> AttachSession:
    return engine.attachments.open(started(engine, made))


def test_output_and_errors_are_told_apart(engine: NativeEngine) -> None:
    made = replace(spec(engine, "sh", "-c", "read line; echo out; echo err >&2; sleep 100"), stdin=True)
    with closing(opened(engine, made)) as session:
        session.write(b"\n")
        got: dict[str, bytes] = {}
        deadline = time.monotonic() + patience(10)
        while len(got) < 2:
            assert time.monotonic() < deadline
            if chunk := session.read(0.1):
                got[chunk.stream] = chunk.content
    assert got == {"stdout": b"out\n", "stderr": b"err\n"}


def test_a_terminal_has_its_size_and_its_echo(engine: NativeEngine) -> None:
    with closing(opened(engine, replace(spec(engine, "sh"), terminal=True))) as session:
        session.resize(91, 33)
        deadline = time.monotonic() + patience(10)
        got = b""
        while b"33 91" not in got:
            assert time.monotonic() < deadline, got
            session.write(b"stty size\n")
            time.sleep(0.2)
            while chunk := session.read(0.1):
                got += chunk.content


def test_a_size_is_there_once_it_is_given(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy node a program began without one, though who ran it had given it before: the supervisor had not read it yet."""
    monkeypatch.setattr(attach, "HEARD_S", patience(10))
    id = started(engine, replace(spec(engine, "sleep", "1000"), terminal=True))
    supervisor = int((engine.home.conmon(id) / "conmon.pid").read_text())
    with closing(engine.attachments.open(id)) as session:
        os.kill(supervisor, signal.SIGSTOP)
        resumed = threading.Timer(0.3, os.kill, (supervisor, signal.SIGCONT))
        resumed.start()
        session.resize(91, 33)
        assert inside(engine, id, "stty size < /proc/1/fd/0") == "33 91"
        resumed.join()


def test_an_input_of_once_ends_with_it(engine: NativeEngine) -> None:
    made = replace(spec(engine, "sh", "-c", "wc -c; echo over"), stdin=True, stdin_once=True)
    id = started(engine, made)
    with closing(engine.attachments.open(id)) as session:
        session.write(b"x" * 100_000)
        session.close_input()
        assert b"100000" in until(session, b"over")
    deadline = time.monotonic() + patience(10)
    while engine.settle(id).state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert engine.inspect(id).exit_code == 0


def test_a_reader_that_does_not_read_holds_nobody_up(engine: NativeEngine) -> None:
    made = replace(
        spec(engine, "sh", "-c", "read x; yes 0123456789 | head -c 20000000; echo over; sleep 100"), stdin=True
    )
    id = started(engine, made)
    lazy, keen = engine.attachments.open(id), engine.attachments.open(id)
    keen.write(b"\n")
    until(keen, b"over", within_s=90)  # twenty megabytes in lines of eleven bytes
    assert lazy.dropped > 20_000_000 - 2 * attach.BUFFER_BYTES
    assert b"over" in until(lazy, b"over")
    lazy.close()
    keen.close()


def test_an_input_that_nobody_reads_is_told(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "INPUT_DEADLINE_S", 1.0)
    made = replace(spec(engine, "sh", "-c", "while :; do echo alive; sleep 0.1; done"), stdin=True)
    with closing(opened(engine, made)) as session:
        with pytest.raises(DeadlineExceeded):
            session.write(b"x" * 10_000_000)
        while session.read(0.05):
            continue
        until(session, b"alive")


def test_a_person_attaches_and_leaves_by_keys(engine: NativeEngine) -> None:
    made = spec(engine, "sh", "-c", "while read x; do echo got-$x-back; done")
    id = started(engine, replace(made, stdin=True, terminal=True))
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "runtime", "attach", id]
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=SOURCE, env=dict(os.environ))
    os.close(slave)
    got, deadline = b"", time.monotonic() + patience(20)
    while b"got-hello-back" not in got:
        assert time.monotonic() < deadline, got
        os.write(master, b"hello\n")
        if select.select([master], [], [], 0.5)[0]:
            got += os.read(master, 65536)
    os.write(master, b"\x10\x11")
    assert child.wait(patience(10)) == 0
    os.close(master)
    assert engine.settle(id).state is State.RUNNING
