"""Ctrl-C, SIGTERM, a closed terminal and kill -9 while the set-up runs a program: nothing of it stays behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHIN_S = 30.0
LAUNCHER = """
    import sys
    sys.path.insert(0, {root!r})
    from launcher import __main__ as command_line
    from launcher.commands import run
    from launcher.output import Output

    def up(settings, output, *, set_up_only):
        with output.step("Python environment", "why") as progress:
            run(["/bin/sh", "-c", {script!r}], progress, what="pip install", whole={whole!r})
        output.line("went on")
        return 0

    command_line.up.up = up
    sys.exit(command_line.main(["up"]))
"""


def _launch(script: str, *, whole: str = "", **more: object) -> subprocess.Popen[str]:
    code = textwrap.dedent(LAUNCHER).format(root=str(ROOT), script=script, whole=whole)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    return subprocess.Popen([sys.executable, "-c", code], text=True, env=kept, **more)  # type: ignore[call-overload,no-any-return]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _pids(file: Path, count: int) -> list[int]:
    _until(lambda: file.exists() and len(file.read_text().split()) == count, "the program runs")
    return [int(pid) for pid in file.read_text().split()]


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    return tmp_path / "pids"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_program_ends_with_all_it_started(pids: Path, number: signal.Signals) -> None:
    launcher = _launch(
        f"trap '' INT TERM HUP; sleep 65 & echo $$ $! > {pids}; while :; do sleep 0.05; done", stdout=subprocess.PIPE
    )
    started = _pids(pids, 2)
    launcher.send_signal(number)
    said, _ = launcher.communicate(timeout=WITHIN_S)
    assert launcher.returncode == 128 + number
    assert "Python environment: interrupted after" in said
    assert "interrupted; what was done stays, and the next start goes on from there" in said
    assert "went on" not in said
    for pid in started:
        _until(lambda pid=pid: not _alive(pid), "gone")  # type: ignore[misc]


def test_a_program_dies_with_a_killed_launcher(pids: Path) -> None:
    launcher = _launch(f"trap '' INT TERM HUP; echo $$ > {pids}; while :; do sleep 0.05; done")
    (pid,) = _pids(pids, 1)
    launcher.kill()
    launcher.wait()
    _until(lambda: not _alive(pid), "gone")


def test_what_must_not_stop_half_way_is_let_finish(pids: Path, tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    script = f"echo $$ > {pids}; while [ ! -e {go} ]; do sleep 0.05; done; echo finished; touch {done}"
    launcher = _launch(script, whole="packages would break", stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    _pids(pids, 1)
    launcher.send_signal(signal.SIGINT)
    said = [launcher.stdout.readline() for _ in range(2)]
    assert "pip install is let finish before this stops: packages would break" in said[1]
    go.touch()
    rest, _ = launcher.communicate(timeout=WITHIN_S)
    assert launcher.returncode == 130
    assert done.exists()
    assert "went on" not in rest


def test_a_second_interruption_ends_even_that(pids: Path) -> None:
    launcher = _launch(
        f"echo $$ > {pids}; while :; do sleep 0.05; done", whole="packages would break", stdout=subprocess.PIPE
    )
    assert launcher.stdout is not None
    (pid,) = _pids(pids, 1)
    launcher.send_signal(signal.SIGINT)
    launcher.stdout.readline()
    launcher.stdout.readline()
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=WITHIN_S)
    assert launcher.returncode == 130
    _until(lambda: not _alive(pid), "gone")


def test_a_closed_terminal_ends_it_quietly_and_at_once(pids: Path, tmp_path: Path) -> None:
    """What is written to a terminal that is gone fails, and that must not stop the tidying up."""
    ours, theirs = pty.openpty()
    errors = tmp_path / "errors"
    with errors.open("w") as stderr:
        launcher = _launch(f"echo $$ > {pids}; while :; do echo words; sleep 0.02; done", stdout=theirs, stderr=stderr)
    os.close(theirs)
    (pid,) = _pids(pids, 1)
    os.close(ours)
    launcher.send_signal(signal.SIGHUP)
    launcher.wait(WITHIN_S)
    _until(lambda: not _alive(pid), "gone")
    assert "Traceback" not in errors.read_text()
