"""A terminal that the container runtime hands over and that does not arrive: told at once, and nothing of the command is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from runtime.api import ExecSpec
from runtime.engines.native import execs
from runtime.engines.native.oci import Runtime
from runtime.errors import DeadlineExceeded, EngineFault
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.process import start_time
from tests.conftest import patience

LIVES_S = 60
RUNTIME = f"""#!{sys.executable}
import os, pty, signal, socket, sys, time
words = sys.argv
ours, theirs = pty.openpty()
ready, begins = os.pipe()
command = os.fork()
if not command:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.write(begins, b"x")
    time.sleep({LIVES_S})
    os._exit(0)
os.read(ready, 1)
with open({{told!r}}, "w") as told:
    told.write(str(command))
with socket.socket(socket.AF_UNIX) as to:
    to.connect(words[words.index("--console-socket") + 1])
    socket.send_fds(to, [b"/dev/pts/0"], [ours] if {{sends}} else [])
with open(words[words.index("--pid-file") + 1], "w") as pid:
    pid.write(str(command))
os.waitpid(command, 0)
"""
"""What crun does, with a command that no hang-up ends."""


class Group(Cgroup):
    """The container's, which has the one command."""

    def __init__(self, told: Path) -> None:
        super().__init__("/none")
        self._told = told

    def procs(self) -> tuple[int, ...]:
        return (self.command(),) if start_time(self.command()) is not None else ()

    def command(self) -> int:
        return int(self._told.read_text())


class Scene:
    def __init__(self, folder: Path, *, sends: bool) -> None:
        self._folder = folder
        self.scratch = folder / "exec"
        self.group = Group(folder / "told")
        (folder / "crun").write_text(RUNTIME.format(told=str(folder / "told"), sends=sends))
        (folder / "crun").chmod(0o755)

    def run(self) -> execs.NativeExec:
        runtime = Runtime(str(self._folder / "crun"), self._folder / "state")
        return execs.run(runtime, self.scratch, "c1", {}, ExecSpec(("sh",), terminal=True), self.group)

    def fails(self, kind: type[Exception], words: str) -> None:
        """And leaves nothing behind, neither processes nor descriptors."""
        before = descriptors()
        with pytest.raises(kind, match=words):
            self.run()
        assert descriptors() == before
        self.nothing_left()

    def nothing_left(self) -> None:
        assert list(self.scratch.iterdir()) == []
        deadline = time.monotonic() + patience(5)
        while self.group.procs():
            assert time.monotonic() < deadline, "the command goes on"
            time.sleep(0.02)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_words_without_a_terminal_are_a_fault_at_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, sends=False)
    scene.fails(EngineFault, "lost on its way")


def test_a_terminal_that_takes_no_size_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no size")

    monkeypatch.setattr(execs, "set_size", refuse)
    scene = Scene(tmp_path, sends=True)
    scene.fails(OSError, "no size")


def test_a_start_that_cannot_be_followed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when no further file can be opened."""
    real, tries = execs.NativeExec.begun, []

    def begun(session: execs.NativeExec) -> bool:
        tries.append(session)
        if len(tries) == 1:
            raise OSError("too many open files")
        return real(session)

    scene = Scene(tmp_path, sends=True)
    monkeypatch.setattr(execs.NativeExec, "begun", begun)
    scene.fails(OSError, "too many open files")


WAITING = f"""#!{sys.executable}
import os, time
if not os.fork():
    os._exit(0)
time.sleep({LIVES_S})
"""
"""What runc 1.1 does whose command was killed before it had sent its terminal."""


def test_a_runtime_that_waits_for_a_killed_command_is_ended(tmp_path: Path) -> None:
    """While it did not bury its command, the container's own first process did not end, and a stop failed."""
    scene = Scene(tmp_path, sends=False)
    (tmp_path / "told").write_text("1")
    runc = tmp_path / "runc"
    runc.write_text(WAITING)
    runc.chmod(0o755)
    before, began = descriptors(), time.monotonic()
    with pytest.raises(EngineFault, match="killed before it began"):
        execs.run(Runtime(str(runc), tmp_path), scene.scratch, "c1", {}, ExecSpec(("sh",), terminal=True), scene.group)
    assert time.monotonic() - began < patience(10)
    assert descriptors() == before
    assert list(scene.scratch.iterdir()) == []


def test_a_runtime_that_never_hands_one_over_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, sends=False)
    (tmp_path / "told").write_text("0")
    (tmp_path / "crun").write_text(f"#!{sys.executable}\nimport time\ntime.sleep({LIVES_S})\n")
    monkeypatch.setattr(execs, "START_DEADLINE_S", 0.5)
    scene.fails(DeadlineExceeded, "did not start within")
