"""What the node saw is on its disk until somebody else has it, whatever is cut short."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.metering import spool as spools
from console.metering.spool import HEAD, Spool


def numbers(spool: Spool) -> list[int]:
    taken: list[int] = []
    spool.drain(lambda found: taken.extend(one["n"] for one in found))
    return taken


def killed(work: Callable[[], Any], point: str) -> None:
    """In a child that dies at ``point``."""
    child = os.fork()
    if child == 0:
        os.environ["SLIPWAY_FAILPOINT"] = point
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{point} was not passed"
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_what_was_appended_is_taken_once_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    assert numbers(spool) == []
    for number in range(5):
        spool.append([{"n": number}])
    assert spool.pending_bytes() > 0
    assert numbers(spool) == [0, 1, 2, 3, 4]
    assert numbers(spool) == []
    assert spool.pending_bytes() == 0
    Spool(tmp_path / "spool").append([{"n": 5}])
    assert numbers(spool) == [5]


def test_what_was_not_taken_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([{"n": 1}])

    def away(_found: list[dict[str, Any]]) -> None:
        raise ConnectionError("the database is away")

    for _ in range(3):
        with pytest.raises(ConnectionError):
            spool.drain(away)
        spool.append([{"n": 2}])
    assert numbers(spool) == [1, 2, 2, 2]


def test_full_segments_go_when_they_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "SEGMENT_BYTES", 1)
    spool = Spool(tmp_path)
    for number in range(4):
        spool.append([{"n": number}])
    assert len(list(tmp_path.glob("*.spool"))) == 4
    assert numbers(spool) == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("*.spool"))) == 1
    spool.append([{"n": 4}])
    assert numbers(spool) == [4]


def test_what_is_pending_is_counted_while_somebody_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that was listed is gone when its size is asked for."""
    spool = Spool(tmp_path)
    spool.append([{"n": 1}])
    known = spool.pending_bytes()
    assert known > 0
    monkeypatch.setattr(spool, "_segments", lambda: [1, 2])
    assert spool.pending_bytes() == known


@pytest.mark.parametrize("cut", [1, HEAD.size, HEAD.size + 1])
def test_a_frame_that_was_cut_short_costs_only_itself(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path)
    spool.append([{"n": 1}])
    (segment,) = tmp_path.glob("*.spool")
    with segment.open("ab") as handle:
        handle.write(segment.read_bytes()[:cut])
    assert numbers(spool) == [1]
    spool.append([{"n": 2}])
    assert numbers(spool) == [2]
    assert numbers(Spool(tmp_path)) == []


def test_a_damaged_frame_is_stepped_over_and_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(3):
        spool.append([{"n": number}])
    (segment,) = tmp_path.glob("*.spool")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    assert numbers(spool) == [0, 2]
    assert (tmp_path / "damaged" / segment.name).read_bytes() == data


@pytest.mark.parametrize("point", ["spool.written", "spool.synced"])
def test_a_kill_while_appending_leaves_it_whole(tmp_path: Path, point: str) -> None:
    spool = Spool(tmp_path)
    spool.append([{"n": 1}])
    killed(lambda: spool.append([{"n": 2}]), point)
    again = Spool(tmp_path)
    again.append([{"n": 3}])
    assert numbers(again) == [1, 2, 3]


def test_a_kill_after_taking_gives_it_again_and_after_moving_does_not(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([{"n": 1}])
    killed(lambda: numbers(spool), "drain.taken")
    killed(lambda: numbers(spool), "drain.moved")
    assert numbers(spool) == []
    spool.append([{"n": 2}])
    killed(lambda: numbers(spool), "drain.taken")
    assert numbers(spool) == [2]


def test_a_full_disk_refuses_and_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.append([{"n": 1}])
    with monkeypatch.context() as full:

        def fsync(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        full.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            spool.append([{"n": 2}])
    spool.append([{"n": 3}])
    assert 1 in (taken := numbers(spool))
    assert 3 in taken


@pytest.mark.parametrize(
    "cursor", [b"", b"{", b"\xff", b"7", b"[1]", b'["1", 2]', b"[1, -1]", b"[0, 0]", b"[null, null]", b"[" * 100_000]
)
def test_a_damaged_cursor_loses_nothing(tmp_path: Path, cursor: bytes) -> None:
    """What was taken already is given again, which changes nothing."""
    spool = Spool(tmp_path)
    spool.append([{"n": 1}])
    assert numbers(spool) == [1]
    (tmp_path / "cursor").write_bytes(cursor)
    spool.append([{"n": 2}])
    assert Spool(tmp_path).pending_bytes() > 0
    assert numbers(Spool(tmp_path)) == [1, 2]
    assert numbers(Spool(tmp_path)) == []
    Spool(tmp_path).append([{"n": 3}])
    assert numbers(spool) == [3]
