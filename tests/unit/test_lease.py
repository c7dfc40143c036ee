"""Who opens a leased file for writing waits for its holder, and for nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.kernel.lease import Lease
from tests.conftest import patience

A_MOMENT_S = 0.3
HOLDER = """
import sys
from pathlib import Path
from runtime.kernel.lease import Lease
held = Lease(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


class Writer(threading.Thread):
    """Writes a word into a file, as soon as it may."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.done = path, threading.Event()

    def run(self) -> None:
        self.path.write_text("word")
        self.done.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def held(path: Path) -> Iterator[Lease]:
    made = Lease(path)
    yield made
    made.close()


def test_a_writer_waits_until_the_holder_lets_go(held: Lease, path: Path) -> None:
    """The holder, this process, is ended by no signal meanwhile."""
    writer = Writer(path)
    writer.start()
    assert not writer.done.wait(A_MOMENT_S)
    held.close()
    assert writer.done.wait(patience(10))
    assert path.read_text() == "word"


def test_a_reader_does_not_wait(held: Lease, path: Path) -> None:
    assert path.read_text() == ""


def test_a_descriptor_that_a_child_has_holds_nobody_up(held: Lease, path: Path) -> None:
    """As one has it that is made at the same moment, until it becomes its program."""
    inherited = os.dup(held._descriptor)
    held.close()
    writer = Writer(path)
    writer.start()
    assert writer.done.wait(patience(10))
    os.close(inherited)


def test_a_holder_that_is_gone_holds_nobody_up(path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        writer = Writer(path)
        writer.start()
        assert not writer.done.wait(A_MOMENT_S)
        holder.kill()
        assert writer.done.wait(patience(10))


def test_letting_go_twice_is_once(held: Lease) -> None:
    held.close()
    other = os.open(os.devnull, os.O_RDONLY)
    held.close()
    os.fstat(other)
    os.close(other)


def test_a_file_that_is_there_is_nobody_elses_to_hold(path: Path) -> None:
    path.write_text("theirs")
    with pytest.raises(FileExistsError):
        Lease(path)
    assert path.read_text() == "theirs"
