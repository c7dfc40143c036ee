"""The journal of events on disk: bounded, ordered among many writers, whole after a part of a line."""

from __future__ import annotations

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.api import EventKind
from runtime.telemetry import journal
from runtime.telemetry.journal import Journal


def numbers(folder: Path) -> list[int]:
    return [event.number for event in Journal(folder).read()]


def test_many_writers_share_one_order(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: Journal(tmp_path).tell(EventKind.CREATED, f"c{n}"), range(200)))
    assert numbers(tmp_path) == list(range(1, 201))


def test_it_is_bounded_and_its_numbers_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 2000)
    for number in range(500):
        Journal(tmp_path).tell(EventKind.STARTED, f"c{number}", data={"epoch": 1})
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 501))
    assert kept[0] > 1
    assert sum(path.stat().st_size for path in tmp_path.glob("*.jsonl")) < 2300 * (journal.SEGMENTS + 1)
    assert [event.number for event in Journal(tmp_path).read(after=499)] == [500]


ODD = (
    {"number": "2"}, {"at": "x"}, {"at": None}, {"subject": ["c"]}, {"data": 7}, {"data": {"epoch": []}}, {"kind": 7}, {"tenant": None},
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_what_is_no_event_is_passed_over_and_the_next_goes_on(tmp_path: Path, odd: dict[str, object]) -> None:
    Journal(tmp_path).tell(EventKind.CREATED, "cfirst")
    (path,) = tmp_path.glob("*.jsonl")
    honest = json.loads(path.read_bytes())
    with path.open("a") as file:
        file.write(json.dumps({**honest, "number": 2, **odd}) + "\n")
    (tmp_path / "garbage.jsonl").write_bytes(b"\xff")
    (tmp_path / "\N{ARABIC-INDIC DIGIT THREE}.jsonl").touch()
    journal = Journal(tmp_path)
    journal.tell(EventKind.STARTED, "cfirst", data={"epoch": 1})
    assert [event.kind for event in journal.read(since=0.0)] == [EventKind.CREATED, EventKind.STARTED]
    assert [event.kind for event in journal.recent()] == [EventKind.CREATED, EventKind.STARTED]
    assert journal.last() > 1


@pytest.mark.parametrize("part", [b'{"numb', b"\0" * 100, b'{"number": 2, "at": 1}\n', b"[]\n", b"\xff\xfe\n"])
def test_what_is_not_whole_is_passed_over(tmp_path: Path, part: bytes) -> None:
    Journal(tmp_path).tell(EventKind.CREATED, "cfirst")
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("ab") as file:
        file.write(part)
    assert [event.subject for event in Journal(tmp_path).read()] == ["cfirst"]
    Journal(tmp_path).tell(EventKind.CREATED, "csecond")
    told = list(Journal(tmp_path).read())
    assert [event.subject for event in told] == ["cfirst", "csecond"]
    assert told[0].number < told[1].number


def test_a_line_that_is_being_written_is_told_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has come to its end sees a part of it, and then the rest and the next."""
    writer = Journal(tmp_path)
    writer.tell(EventKind.CREATED, "cfirst")
    (path,) = tmp_path.glob("*.jsonl")
    whole = path.stat().st_size
    writer.tell(EventKind.CREATED, "csecond")
    content = path.read_bytes()
    os.truncate(path, whole + 20)
    opened = io.BufferedReader(Written(path, content))
    monkeypatch.setattr(Path, "open", lambda *_: opened)
    found = list(Journal(tmp_path).read())
    monkeypatch.undo()
    found += Journal(tmp_path).read(after=found[-1].number)
    assert [event.subject for event in found] == ["cfirst", "csecond", "cthird"]


class Written(io.FileIO):
    """A file of which the rest is written, and one event more told, once a reader has come to its end."""

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__(path)
        self._path, self._content = path, content

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        got = super().readinto(buffer) or 0
        if not got and self._content:
            with open(self._path, "wb") as whole:
                whole.write(self._content)
            self._content = b""
            Journal(self._path.parent).tell(EventKind.CREATED, "cthird")
        return got


def test_which_way_a_container_went_last_is_of_that_network(tmp_path: Path) -> None:
    told = Journal(tmp_path)
    for subject, kind, network in (
        ("cone", EventKind.CONNECTED, "back"),
        ("cone", EventKind.DISCONNECTED, "back"),
        ("cone", EventKind.CONNECTED, "far"),
        ("ctwo", EventKind.CONNECTED, "back"),
    ):
        told.tell(kind, subject, data={"network": network})
    told.tell(EventKind.DIED, "cone", data={"epoch": 1})
    assert told.last_move("cone", "back") is EventKind.DISCONNECTED
    assert told.last_move("cone", "far") is told.last_move("ctwo", "back") is EventKind.CONNECTED
    assert told.last_move("cone", "near") is told.last_move("cthree", "back") is None


def test_a_kind_of_a_later_version_keeps_its_number(tmp_path: Path) -> None:
    Journal(tmp_path).tell(EventKind.CREATED, "cfirst")
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"created"', b'"teleported"'))
    Journal(tmp_path).tell(EventKind.CREATED, "csecond")
    assert numbers(tmp_path) == [2]


def test_what_cannot_be_written_hinders_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    Journal(tmp_path / "file" / "events").tell(EventKind.CREATED, "cfirst")
    assert "could not be written" in caplog.text
    assert Journal(tmp_path / "file" / "events").last() == 0


def test_long_words_are_cut(tmp_path: Path) -> None:
    Journal(tmp_path).tell(EventKind.UNHEALTHY, "cfirst", data={"output": "x" * 100_000})
    (event,) = Journal(tmp_path).read()
    assert len(str(event.data["output"])) == journal.LONGEST_VALUE


def test_an_event_survives_in_a_process_of_its_own(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        Journal(tmp_path).tell(EventKind.CREATED, "cchild")
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert [event.subject for event in Journal(tmp_path).read()] == ["cchild"]
