"""A command with a terminal in a container: its size, all that it says, and who is told when the terminal goes."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

import pytest

from runtime.api import ExecSpec
from runtime.engines.native import execs
from runtime.engines.native.engine import NativeEngine
from runtime.errors import Conflict, EngineFault, InvalidSpec
from tests.conftest import oci_runtime, patience
from tests.kernel.containers import engine, run, spec
from tests.marks import no_cgroup

__all__ = ["engine"]
pytestmark = [pytest.mark.root, no_cgroup]
TIMES = 20


def said(engine: NativeEngine, id: str, *command: str) -> bytes:
    """To its terminal, until it ended; a terminal that nobody has any more answers EIO (ioctl_tty(4))."""
    found = b""
    wanted = ExecSpec(command, terminal=True, columns=100, rows=30)
    with contextlib.closing(engine.exec(id, wanted)) as session, contextlib.suppress(OSError):
        while more := session.stdout.read(4096):
            found += more
    return found


def test_a_command_that_ends_at_once_is_heard(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    heard = [said(engine, id, "tty") for _ in range(TIMES)]
    assert [words.strip() for words in heard] == [heard[0].strip()] * TIMES
    assert heard[0].startswith(b"/dev/pts/")


def test_the_size_is_what_was_asked_for(engine: NativeEngine) -> None:
    """Or is in a moment, where the runtime makes a terminal of none first (crun 1.8): who reads it at the start is told of the change."""
    id = run(engine, spec(engine))
    script = "trap 'stty size' WINCH; stty size; for n in 1 2 3 4 5; do sleep 0.1; done"
    assert said(engine, id, "sh", "-c", script).split()[-2:] == [b"30", b"100"]


def test_long_output_is_whole(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    lines = said(engine, id, "seq", "20000").split()
    assert lines == [b"%d" % number for number in range(1, 20001)]


def _freeze(engine: NativeEngine, id: str) -> None:
    engine.controls.pause(id)


def _end(engine: NativeEngine, id: str) -> None:
    engine.kill(id)
    engine.controls.wait(id, patience(20))


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("meanwhile", "words"), [(_end, "not running"), (_freeze, "paused")])
def test_a_container_that_changed_meanwhile_is_a_conflict(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch, meanwhile: Any, words: str, terminal: bool
) -> None:
    id, described = run(engine, spec(engine)), execs.described

    def late(*given: Any) -> dict[str, Any]:
        process = described(*given)
        meanwhile(engine, id)
        return process

    monkeypatch.setattr(execs, "described", late)
    with pytest.raises(Conflict, match=words):
        engine.exec(id, ExecSpec(("true",), terminal=terminal))
    assert not (engine.home.run / "exec").is_dir() or list((engine.home.run / "exec").iterdir()) == []


def test_a_command_that_is_not_there_leaves_nothing(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    with pytest.raises(InvalidSpec, match="no-such-command"):
        engine.exec(id, ExecSpec(("no-such-command",), terminal=True))
    assert list((engine.home.run / "exec").iterdir()) == []
    assert os.stat(os.devnull).st_uid == 0, "the node's own streams are nobody else's"


def test_closing_hangs_up_what_runs_in_it(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    session = engine.exec(id, ExecSpec(("sh", "-c", "sleep 1234 & echo up; exec sleep 1235"), terminal=True))
    assert session.stdout.read(2) == b"up"
    session.close()
    with contextlib.closing(engine.exec(id, ExecSpec(("ps", "-o", "args")))) as listed:
        assert b"123" not in listed.stdout.read()
        assert listed.wait(patience(10)) == 0


@pytest.mark.skipif(not oci_runtime().endswith("crun"), reason="runc hands over no terminals")
def test_a_command_whose_terminal_is_lost_on_its_way_is_ended(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process that has no descriptor free."""
    id = run(engine, spec(engine))
    real = socket.recv_fds

    def without_room(connection: socket.socket, length: int, _: int, flags: int) -> Any:
        return real(connection, length, 0, flags)

    monkeypatch.setattr(socket, "recv_fds", without_room)
    with pytest.raises(EngineFault, match="lost on its way"):
        engine.exec(id, ExecSpec(("sh", "-c", "trap '' HUP; sleep 1236"), terminal=True))
    assert list((engine.home.run / "exec").iterdir()) == []
    with contextlib.closing(engine.exec(id, ExecSpec(("ps", "-o", "args")))) as listed:
        assert b"1236" not in listed.stdout.read()
        assert listed.wait(patience(10)) == 0
