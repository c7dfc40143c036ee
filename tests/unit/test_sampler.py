"""Whose interfaces change is looked at again, and nobody else: containers of other tenants keep their files and their figures."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from runtime.api import Counters
from runtime.home import Home
from runtime.telemetry import interfaces, sampler
from runtime.telemetry.interfaces import Wiring
from runtime.telemetry.sampler import LOOKS, Sampler
from tests.unit.homes import OwnRun

QUIET, BUSY = "cquiet", "cbusy"


class Node:
    """Containers without a kernel: the loopback stands for the interface of each, on every machine it is there."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.sampler = Sampler(home)
        self.opened: Counter[str] = Counter()
        """How often the interfaces of each were looked for."""
        self.readings: Counter[str] = Counter()
        self.meanwhile: Callable[[], None] = lambda: None
        """What somebody does in the middle of each container's reading."""

    def read(self) -> dict[str, Counters]:
        return dict(self.sampler.read((QUIET, BUSY), lambda _: "tenant1"))

    def change(self, container: str = BUSY) -> None:
        interfaces.joined(self.home, container, ["lo"])


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    made = Node(OwnRun(tmp_path))
    for id in (QUIET, BUSY):
        made.home.container(id).mkdir(parents=True)

    class Reader:
        def __init__(self, path: str) -> None:
            self._container = path.rpartition("/")[2]

        def read(self, *, live: bool, **traffic: int | None) -> Counters:
            made.readings[self._container] += 1
            made.meanwhile()
            return Counters(**{one.name: 1 for one in fields(Counters)} | traffic)  # type: ignore[arg-type]

        def close(self) -> None:
            pass

    load = interfaces.load

    def counted(home: Home, container: str) -> Wiring | None:
        made.opened[container] += 1
        return load(home, container)

    monkeypatch.setattr(sampler, "Reader", Reader)
    monkeypatch.setattr(sampler, "_names", lambda *_: iter(["lo"]))
    monkeypatch.setattr(interfaces, "load", counted)
    yield made
    made.sampler.keep_only(())


def test_what_changes_all_the_time_leaves_others_alone(node: Node) -> None:
    node.read()
    node.opened.clear()
    node.readings.clear()
    node.meanwhile = node.change
    found = node.read()
    assert found[BUSY].net_rx_bytes is None, "each look was at others than were there at its end"
    assert found[QUIET].net_rx_bytes is not None
    assert node.readings == {QUIET: 1, BUSY: LOOKS}, "only its own reading is thrown away"
    assert node.opened[QUIET] == 0
    node.meanwhile = lambda: None
    assert node.read()[BUSY].net_rx_bytes is not None, "the next one has it again"
    assert node.opened[QUIET] == 0


def test_changes_between_readings_reopen_only_what_changed(node: Node) -> None:
    node.read()
    node.opened.clear()
    node.readings.clear()
    for _ in range(3):
        node.change()
        assert None not in {one.net_rx_bytes for one in node.read().values()}
    assert node.readings == {QUIET: 3, BUSY: 3}
    assert node.opened[QUIET] == 0
    assert node.opened[BUSY] == 3 + 3, "once by who wrote it, once by who read it"


def test_a_change_in_the_middle_is_in_that_reading(node: Node) -> None:
    """An interface that goes while the container is read: its figures come from the file, and none is lost."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(1000), ("127.0.0.1", 9))
    before = node.read()[BUSY].net_rx_bytes
    assert before is not None
    assert before >= 1000
    changes = [lambda: interfaces.retire(node.home, BUSY, "lo", ["lo"])]
    node.meanwhile = lambda: changes.pop()() if changes else None
    after = node.read()[BUSY].net_rx_bytes
    assert after is not None
    assert after >= 2 * before, "what went, and what is there"


def test_what_is_read_again_may_be_gone(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.read()

    def go() -> None:
        node.change()
        node.meanwhile = lambda: None
        monkeypatch.setattr(node.sampler, "_all", lambda *_: iter(()))

    node.meanwhile = go
    found = node.read()
    assert BUSY not in found, "a reading from before its end that nobody can vouch for"
    assert QUIET in found


def test_of_traffic_on_an_interface_that_cannot_be_read_nothing_is_said(node: Node) -> None:
    """What the others counted is not all: as a sum it would go back, and then forward again."""
    interfaces.joined(node.home, BUSY, ["lo", "nosuch0"])
    found = node.read()
    assert (found[BUSY].net_rx_bytes, found[BUSY].net_tx_bytes) == (None, None)
    assert found[QUIET].net_rx_bytes is not None
