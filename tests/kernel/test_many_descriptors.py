"""The engine in a process that has opened thousands of files, as one that reads the counters of a thousand containers has."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import ExecSpec, HealthCheck, Port, State
from runtime.engines.native.engine import NativeEngine
from runtime.kernel.ready import readable
from tests.conftest import patience
from tests.descriptors import MORE, all_that_select_knows_taken
from tests.kernel.test_health_probes import SERVE, first
from tests.kernel.test_native_engine import engine, spec
from tests.marks import no_cgroup

__all__ = ["engine"]
pytestmark = [pytest.mark.root, no_cgroup]
ROOT = Path(__file__).parents[2]
ASK = r"""
import os
from runtime.kernel import nft
from tests.descriptors import all_that_select_knows_taken

name = "slipway_test_descriptors"


def there():
    return [row for row in nft.query("list tables") if row.get("table", {}).get("name") == name]


nft.run(f"add table inet {name}")
before = there()
assert before
with all_that_select_knows_taken() as taken:
    assert there() == before, "a program says what the library says"
    nft.run(f"add table inet {name}\ndelete table inet {name}")
    assert not there()
    try:
        nft.run("add rule inet none none drop")
    except nft.NftablesFault as fault:
        assert "No such file" in str(fault)
    else:
        raise AssertionError("there is no such table")
    print(len(taken), sum(os.path.samefile(f"/proc/self/fd/{number}", os.devnull) for number in taken))
"""

HOLES = r"""
import os
from runtime.kernel import nft
from tests.descriptors import SELECT_KNOWS, all_that_select_knows_taken

library = nft._library()
make = library.nft_ctx_new


def after_others(flags):
    while (number := os.open(os.devnull, os.O_RDONLY)) < SELECT_KNOWS:
        pass
    os.close(number)
    return make(flags)


library.nft_ctx_new = after_others
with all_that_select_knows_taken() as taken:
    for _ in range(20):
        os.close(taken.pop(0))
    nft.run("add table inet slipway_test_holes; delete table inet slipway_test_holes")
"""
"""A few low descriptors were closed again, as by an event loop that has ended, and other threads open files at that moment."""

CROWDED = """
import os, sys
from runtime.cli import main
from tests.descriptors import SELECT_KNOWS, all_that_select_knows_taken

with all_that_select_knows_taken():
    probe = os.dup(0)
    assert probe > SELECT_KNOWS
    os.close(probe)
    code = main(sys.argv[1:])
sys.exit(code)
"""
"""The command line in a process that has so many: all that it opens has a higher number."""


def crowded(*words: str) -> list[str]:
    return [sys.executable, "-c", CROWDED, *words]


def said(*words: str, typed: bytes = b"") -> tuple[int, bytes, bytes]:
    """Its exit code, output and errors."""
    done = subprocess.run(
        crowded(*words), cwd=ROOT, check=False, input=typed, capture_output=True, timeout=patience(60)
    )
    return done.returncode, done.stdout, done.stderr


def test_the_firewall_is_asked_in_one() -> None:
    """In a process of its own: libnftables would end it.  What it had open stays."""
    asked = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, check=False, capture_output=True, text=True, timeout=patience(30)
    )
    assert asked.returncode == 0, asked.stderr
    opened, still_open = map(int, asked.stdout.split())
    assert opened == still_open > MORE


def test_the_firewall_is_asked_in_one_with_holes() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", HOLES], cwd=ROOT, check=False, capture_output=True, text=True, timeout=patience(30)
    )
    assert asked.returncode == 0, asked.stderr


def test_a_whole_life_in_one(engine: NativeEngine) -> None:
    check = HealthCheck(kind="tcp", port=80)
    made = replace(spec(engine, "sh", "-c", SERVE.format(80)), health=check, ports=(Port(80),))
    with all_that_select_knows_taken():
        engine.create(made)
        engine.start(made.id)
        assert first(engine, made.id)
        with closing(engine.exec(made.id, ExecSpec(("true",)))) as session:
            assert session.wait(patience(20)) == 0
        assert engine.counters([made.id])[made.id].memory_bytes
        engine.stop(made.id)
        assert engine.inspect(made.id).state is State.EXITED
        engine.remove(made.id)


def test_a_run_is_shown_to_its_end_in_one(engine: NativeEngine) -> None:
    script = "echo out; sleep 0.3; echo err >&2; exit 3"
    assert said("run", "--rm", "busybox", "sh", "-c", script) == (3, b"out\n", b"err\n")


def test_an_exec_is_piped_in_one(engine: NativeEngine) -> None:
    assert said("run", "-d", "--name", "box", "busybox", "sleep", "1000")[0] == 0
    sent = os.urandom(300_000)
    assert said("exec", "-i", "box", "cat", typed=sent) == (0, sent, b"")
    assert said("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")


def test_an_exec_has_its_terminal_in_one(engine: NativeEngine) -> None:
    assert said("run", "-d", "--name", "box", "busybox", "sleep", "1000")[0] == 0
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, crowded("exec", "-it", "box", "sh"))
    try:
        until(terminal, b"# ")
        os.write(terminal, b"echo $((40 + 2)); exit 6\n")
        until(terminal, b"42")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    finally:
        os.close(terminal)


def test_who_attaches_in_one_types_and_reads(engine: NativeEngine) -> None:
    assert said("run", "-d", "-i", "--name", "box", "busybox", "cat")[0] == 0
    words = crowded("attach", "--detach-keys", "ctrl-p,ctrl-q", "box")
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as person:
        assert person.stdin is not None
        assert person.stdout is not None
        person.stdin.write(b"typed\n")
        person.stdin.flush()
        assert person.stdout.readline() == b"typed\n"
        person.stdin.write(b"\x10\x11")
        person.stdin.flush()
        assert person.wait(patience(20)) == 0, "it left, and the container goes on"
    (box,) = (one for one in engine.list() if one.name == "box")
    assert box.state is State.RUNNING


def until(terminal: int, wanted: bytes) -> None:
    seen, deadline = b"", time.monotonic() + patience(20)
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if readable([terminal], 0.2):
            seen += os.read(terminal, 4096)
