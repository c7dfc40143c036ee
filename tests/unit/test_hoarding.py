"""Who is ended for what no cgroup counts of its memory, and how often that is counted."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

import pytest

from runtime.engines.native import hoarding
from runtime.engines.native.flooding import Room
from runtime.engines.native.hoarding import Hoard, Hoarding, hoard, hoarder
from runtime.engines.native.records import Records
from runtime.home import Home
from runtime.kernel.unread import Unread

MIB = 2**20


@pytest.mark.parametrize(
    ("hoards", "expected"),
    [
        ({}, None),
        ({"a": Hoard(64 * MIB, 64 * MIB)}, None),
        ({"a": Hoard(65 * MIB, 64 * MIB)}, "a"),
        ({"a": Hoard(12 * MIB, 6 * MIB)}, None),
        ({"a": Hoard(900 * MIB, 1024 * MIB), "b": Hoard(70 * MIB, 64 * MIB), "c": Hoard(80 * MIB, 64 * MIB)}, "c"),
    ],
    ids=["nobody", "all that it may", "more", "a few sockets' worth", "the most of those that hold more"],
)
def test_who_is_ended(hoards: dict[str, Hoard], expected: str | None) -> None:
    assert hoarder(hoards) == expected


@pytest.mark.parametrize(
    ("left_mib", "counts"),
    [
        ([3000, 2900, 2800], 0),
        ([1900, 1900, 1900, 1900], 1),
        ([1900, 1890, 1880, 1870], 1),
        ([3000, 1900, 1600, 1300], 3),
    ],
    ids=["enough", "little, and it stays", "little, and it goes in minutes", "it goes in seconds"],
)
def test_when_it_is_counted(monkeypatch: pytest.MonkeyPatch, left_mib: list[int], counts: int) -> None:
    """A look each second; of what containers hold only when it matters."""
    clock, rows, counted = iter(range(100, 200)), iter(left_mib), []
    monkeypatch.setattr(
        hoarding, "left", lambda: Room(next(clock), {"bytes": next(rows) * MIB}, {"bytes": 2048.0 * MIB})
    )
    monkeypatch.setattr(hoarding.time, "monotonic", lambda: 100.0)
    records = cast("Records", SimpleNamespace(readable=lambda: counted.append(1) or iter(())))
    watch = Hoarding(cast("Home", None), records)
    assert [watch.found() for _ in left_mib] == [None] * len(left_mib)
    assert len(counted) == counts
    assert 0.1 <= watch.pause_s() <= 1.0


@pytest.mark.parametrize(("left_mib", "pause_s"), [(20000, 1.0), (8192, 0.5), (2100, 0.13), (100, 0.1)])
def test_looks_come_closer_to_each_other_also_while_nothing_goes(
    monkeypatch: pytest.MonkeyPatch, left_mib: int, pause_s: float
) -> None:
    """Else who keeps the node just above the mark has a whole second to take the rest."""
    monkeypatch.setattr(
        hoarding, "left", lambda: Room(time.monotonic(), {"bytes": left_mib * MIB}, {"bytes": 2048.0 * MIB})
    )
    watch = Hoarding(cast("Home", None), cast("Records", SimpleNamespace(readable=lambda: iter(()))))
    watch.found()
    assert watch.pause_s() == pytest.approx(pause_s, abs=0.01)


@pytest.mark.parametrize(
    ("waiting", "held"),
    [
        (Unread(3 * MIB, 64 * MIB), 3 * MIB),
        (Unread(0, 130 * MIB), 66 * MIB),
        (Unread(3 * MIB, 65 * MIB), 4 * MIB),
    ],
    ids=["all that TCP and UDP hold may be counted", "more than can be", "both"],
)
def test_what_may_be_counted_is_nobodys_fault(waiting: Unread, held: int) -> None:
    assert hoard(waiting, 64 * MIB) == Hoard(held, 64 * MIB)
