"""What a container's interfaces have counted that went, as it is kept: only growing, once, and told when it makes no sense."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from runtime.errors import EngineFault
from runtime.home import Home
from runtime.telemetry import interfaces
from runtime.telemetry.interfaces import Wiring
from tests.unit.homes import OwnRun

ID = "cone"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = OwnRun(tmp_path)
    made.container(ID).mkdir(parents=True)
    return made


def counted(way: str) -> int:
    """The loopback stands for an interface of a container: it is on every machine."""
    return int(Path(f"/sys/class/net/lo/statistics/{way}_bytes").read_text())


def test_one_that_goes_is_counted_once(home: Home) -> None:
    assert interfaces.load(home, ID) is None
    interfaces.joined(home, ID, ["lo", "other"])
    assert interfaces.load(home, ID) == Wiring(("lo", "other"))
    before = counted("tx")
    interfaces.retire(home, ID, "lo", ["other"])
    after = counted("tx")
    first = interfaces.load(home, ID)
    assert first is not None
    assert (first.names, first.last) == (("other",), socket.if_nametoindex("lo"))
    assert before <= first.rx_bytes <= after, "what the host's end sends the container receives"
    interfaces.retire(home, ID, "lo", ["other"])
    assert interfaces.load(home, ID) == first, "twice is once"
    interfaces.retire(home, ID, "gone", ["other"])
    assert interfaces.load(home, ID) == first, "of what is not there nothing is known"
    interfaces.joined(home, ID, ["other", "new"])
    assert interfaces.load(home, ID) == Wiring(("other", "new"), first.rx_bytes, first.tx_bytes, first.last)
    interfaces.forget(home, ID)
    interfaces.forget(home, ID)
    assert interfaces.load(home, ID) is None


def test_each_change_is_seen_by_others(home: Home) -> None:
    seen = {interfaces.generation(home)}
    for number in range(3):
        interfaces.joined(home, ID, [f"one{number}"])
        seen.add(interfaces.generation(home))
    assert len(seen) == 4


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"names": 3}', b'{"names": ["a"], "stranger": 1}', b"\xff"])
def test_a_damaged_file_is_told(home: Home, content: bytes) -> None:
    (home.container(ID) / "interfaces.json").write_bytes(content)
    with pytest.raises(EngineFault, match="damaged"):
        interfaces.load(home, ID)
