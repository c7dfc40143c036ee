"""Attaching to a container, the same for every engine."""

from __future__ import annotations

import time

import pytest

from runtime.api import AttachSession, Engine, Step
from runtime.errors import Conflict, NotFound
from tests.conformance.test_engine import Make, engine, make, run
from tests.conftest import patience
from tests.marks import no_cgroup

__all__ = ["engine", "make"]
pytestmark = no_cgroup


def until(session: AttachSession, text: bytes, within_s: float = 10) -> bytes:
    """What came up to and with the text."""
    got, deadline = b"", time.monotonic() + patience(within_s)
    while text not in got:
        assert time.monotonic() < deadline, got
        chunk = session.read(0.1)
        got += chunk.content if chunk else b""
    return got


def read_away(session: AttachSession) -> None:
    deadline = time.monotonic() + patience(10)
    while time.monotonic() < deadline:
        session.read(0.1)


def test_input_comes_back_as_output_to_all(engine: Engine, make: Make) -> None:
    id = run(engine, make(command=("cat",), stdin=True))
    one, other = engine.attachments.open(id), engine.attachments.open(id)
    one.write(b"hello\n")
    assert b"hello" in until(one, b"hello")
    assert b"hello" in until(other, b"hello")
    one.close()
    other.write(b"still here\n")
    assert b"still here" in until(other, b"still here"), "one who leaves ends nothing"
    other.close()
    third = engine.attachments.open(id)
    third.close_input()
    third.close()
    again = engine.attachments.open(id)
    again.write(b"nor this\n")
    until(again, b"nor this")
    again.close()


def test_who_attaches_amid_the_start_misses_nothing(engine: Engine, make: Make) -> None:
    spec = make(command=("echo", "first"))
    engine.create(spec)
    sessions: list[AttachSession] = []

    def told(step: Step) -> None:
        if step.stage == "start":
            sessions.append(engine.attachments.open(spec.id))

    engine.start(spec.id, progress=told)
    assert b"first" in until(sessions[0], b"first")
    sessions[0].close()


def test_the_end_is_told(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    session = engine.attachments.open(id)
    engine.kill(id)
    engine.settle(id)
    with pytest.raises(EOFError):
        read_away(session)
    session.close()


def test_without_an_input_nothing_is_written(engine: Engine, make: Make) -> None:
    session = engine.attachments.open(run(engine, make()))
    with pytest.raises(Conflict):
        session.write(b"hello\n")
    assert session.read(0.2) is None
    session.close()


def test_attaching_wants_what_runs(engine: Engine, make: Make) -> None:
    spec = make()
    engine.create(spec)
    with pytest.raises(Conflict):
        engine.attachments.open(spec.id)
    with pytest.raises(NotFound):
        engine.attachments.open("cnobody")
