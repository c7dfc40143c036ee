"""The engine in a process that has opened thousands of files, as one that reads the counters of a thousand containers has."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import ExecSpec, HealthCheck, Port, State
from runtime.engines.native.engine import NativeEngine
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
nft.run(f"add table inet {name}")
before = nft.query("list tables")
assert any(row.get("table", {}).get("name") == name for row in before)
with all_that_select_knows_taken() as taken:
    assert nft.query("list tables") == before, "a program says what the library says"
    nft.run(f"add table inet {name}\ndelete table inet {name}")
    assert nft.query("list tables") != before
    try:
        nft.run("add rule inet none none drop")
    except nft.NftablesFault as fault:
        assert "No such file" in str(fault)
    else:
        raise AssertionError("there is no such table")
    print(len(taken), sum(os.path.samefile(f"/proc/self/fd/{number}", os.devnull) for number in taken))
"""


def test_the_firewall_is_asked_in_one() -> None:
    """In a process of its own: libnftables would end it.  What it had open stays."""
    asked = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, check=False, capture_output=True, text=True, timeout=patience(30)
    )
    assert asked.returncode == 0, asked.stderr
    opened, still_open = map(int, asked.stdout.split())
    assert opened == still_open > MORE


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
