"""Two runs of the tests on one machine draw nothing that is the other's."""

from __future__ import annotations

import ipaddress
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests import blocks

DRAW = """
import sys
from tests import blocks
blocks.ALL_RUNS, blocks.BLOCKS, blocks._routed = sys.argv[1], range(3), list
with blocks.free_block() as block:
    print(block, blocks.free_number("test", 2), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> str:
    """What all runs but this test's are called otherwise."""
    name = f"slipway-{secrets.token_hex(8)}"
    monkeypatch.setattr(blocks, "ALL_RUNS", name)
    monkeypatch.setattr(blocks, "BLOCKS", range(3))
    monkeypatch.setattr(blocks, "_routed", list)
    return name


@pytest.fixture
def other(runs: str) -> Iterator[subprocess.Popen[str]]:
    """Another run, which has drawn a block and a number."""
    command = [sys.executable, "-c", DRAW, runs]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        yield made
        made.kill()


def all_blocks() -> set[str]:
    found: set[str] = set()
    with ExitStack() as stack:
        try:
            while True:
                found.add(stack.enter_context(blocks.free_block()))
        except LookupError:
            return found


def test_what_another_run_has_is_not_drawn_until_it_ends(other: subprocess.Popen[str]) -> None:
    assert other.stdout
    block, number = other.stdout.readline().split()
    assert all_blocks() == {f"10.{one}.0.0/16" for one in range(3)} - {block}
    assert blocks.free_number("test", 2) == 1 - int(number)
    with pytest.raises(LookupError):
        blocks.free_number("test", 2)
    other.kill()
    other.wait()
    assert block in all_blocks()
    assert blocks.free_number("test", 2) == int(number)


def test_what_has_a_route_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    routed = [("x", ipaddress.IPv4Network("10.1.3.0/24"))]
    monkeypatch.setattr(blocks, "_routed", lambda: routed)
    assert all_blocks() == {"10.0.0.0/16", "10.2.0.0/16"}
