"""The runtime's command line, as a person uses it, without Django."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Place

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runtime", *words], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(autouse=True)
def cleaned(place: Place) -> Iterator[None]:
    yield
    assert cli("down").returncode == 0


def test_from_run_to_rm() -> None:
    made = cli(
        "run",
        "-d",
        "--name",
        "box",
        "-p",
        "8080",
        "-e",
        "GREETING=hello",
        "--memory",
        "32",
        "busybox",
        "sh",
        "-c",
        "echo $GREETING; sleep 100",
    )
    assert made.returncode == 0, made.stderr
    assert "->8080/tcp" in made.stdout
    assert "running" in cli("ps").stdout
    done = cli("exec", "box", "sh", "-c", "echo inside; exit 4")
    assert (done.returncode, done.stdout) == (4, "inside\n")
    assert cli("logs", "box").stdout == "hello\n"
    assert json.loads(cli("inspect", "box").stdout)["isolation"]["seccomp"] is True
    assert "0." in cli("stats").stdout
    assert cli("stop", "-t", "0", "box").returncode == 0
    assert cli("rm", "box").returncode == 0
    assert "box" not in cli("ps").stdout
    assert "slipway.local/busybox:latest" in cli("images").stdout


def test_run_attached_ends_with_the_programs_code() -> None:
    done = cli("run", "--rm", "busybox", "sh", "-c", "echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")


def test_refusals_are_sentences() -> None:
    for words, text in (
        (("stop", "nobody"), "no container"),
        (("run", "busybox", "nonesuch"), "nonesuch"),
        (("run", "-p", "x", "busybox"), "port"),
    ):
        done = cli(*words)
        assert done.returncode == 1
        assert text in done.stderr
        assert "Traceback" not in done.stderr
