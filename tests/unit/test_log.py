from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.telemetry.log import GENERATIONS, MOST_PIECES, Reader, Wanted, generation_bytes, keep_previous, parse, read

AT = "2026-11-23T20:00:00.000000001+00:00"


def line(text: str) -> str:
    return f"{AT} stdout F {text}\n"


def test_a_line_has_time_stream_and_text() -> None:
    found = parse(f"{AT} stderr P hello  world".encode())
    assert found is not None
    assert (found.at, found.stream, found.text, found.partial) == (AT, "stderr", "hello  world", True)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(raw: bytes) -> None:
    parse(raw)


def test_the_tail_spans_generations(tmp_path: Path) -> None:
    old, new = tmp_path / "log.1", tmp_path / "log"
    old.write_text("".join(line(f"old {n}") for n in range(5000)))
    new.write_text("".join(line(f"new {n}") for n in range(3)))
    reader = Reader(new)
    found = [raw.decode().split(" F ")[1] for raw in reader.last(5)]
    reader.close()
    assert found == ["old 4998", "old 4999", "new 0", "new 1", "new 2"]


def test_a_reader_follows_a_replaced_file_and_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("one"))
    reader = Reader(log)
    assert len(reader.fresh()) == 1
    log.rename(tmp_path / "gone")
    log.write_text(line("two"))
    with (tmp_path / "gone").open("a") as still_open:
        still_open.write(line("late"))
    assert [raw.decode().split(" F ")[1] for raw in reader.fresh() + reader.fresh()] == ["late", "two"]
    reader.close()


def test_a_reader_holds_on_to_what_rotation_takes_away(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for text in ("one", "two", "three"):
        (tmp_path / "log.tmp").write_text(line(text))
        (tmp_path / "log.tmp").rename(log)
        if text != "three":
            keep_previous(log)
    reader = Reader(log)
    (tmp_path / "log.1").unlink()
    (tmp_path / "log.current").unlink()
    assert [raw.decode().split(" F ")[1] for raw in reader.whole()] == ["one", "two", "three"]
    reader.close()


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("whole") + f"{AT} stdout F ha")
    reader = Reader(log)
    assert len(reader.fresh()) == 1
    with log.open("a") as more:
        more.write("lf\n")
    assert reader.fresh()[0].endswith(b"half")
    reader.close()


@pytest.mark.parametrize("at_the_end", [b"a stdout F whole\n", b"a stdout F who"])
def test_after_a_skip_no_piece_of_a_line_is_taken_for_one(tmp_path: Path, at_the_end: bytes) -> None:
    log = tmp_path / "ctr.log"
    log.write_bytes(b"a stdout F first\n")
    reader = Reader(log)
    assert reader.fresh() == [b"a stdout F first"]
    with log.open("ab") as grows:
        grows.write(b"a stdout F many\n" * 100 + at_the_end)
    assert reader.skip_to_end() == 1600 + len(at_the_end)
    with log.open("ab") as grows:
        grows.write((b"" if at_the_end.endswith(b"\n") else b"le stdout F x\n") + b"b stdout F next\n")
    assert reader.fresh() == [b"b stdout F next"]
    assert reader.skip_to_end() == 0
    with log.open("ab") as grows:
        grows.write(b"b stdout F last\n")
    assert reader.fresh() == [b"b stdout F last"]
    reader.close()


def test_the_generation_before_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first")
    keep_previous(log)
    keep_previous(log)
    fresh = tmp_path / "fresh"
    fresh.write_text("second")
    fresh.rename(log)
    keep_previous(log)
    assert (tmp_path / "log.1").read_text() == "first"
    assert log.read_text() == "second"


def test_a_file_that_is_replaced_all_the_time_is_kept_and_read(tmp_path: Path) -> None:
    """The kernel refuses to link a file that lost its name after it was looked up."""
    log = tmp_path / "log"
    log.write_text(line("first"))
    replace = f"import itertools, os\nfor n in itertools.count(): open({str(log)!r} + '.tmp', 'w').close(); os.rename({str(log)!r} + '.tmp', {str(log)!r})"
    flood = subprocess.Popen([sys.executable, "-c", replace])
    try:
        for _ in range(5000):
            keep_previous(log)
            list(read(log, wanted=Wanted(3), follow=False, ended=lambda: True))
    finally:
        flood.kill()
        flood.wait()
    keep_previous(log)
    assert (tmp_path / "log.current").samefile(log)


def test_a_short_tail_then_what_follows_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "log.1").write_text("".join(line(f"old {n}") for n in range(3)))
    log.write_text("".join(line(f"new {n}") for n in range(2)) + f"{AT} stdout F ha")
    over = iter([False, True])

    def ended() -> bool:
        with log.open("a") as more:
            more.write("lf\n" if log.read_text().endswith("ha") else "")
        return next(over, True)

    found = [one.text for one in read(log, wanted=Wanted(3), follow=True, ended=ended)]
    assert found == ["old 2", "new 0", "new 1", "half"]


def test_no_line_of_the_past_is_wanted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("past"))
    for fewer in (0, -1, -MOST_PIECES):
        assert list(read(log, wanted=Wanted(fewer), follow=False, ended=lambda: True)) == []


def test_all_generations_together_stay_within_the_limit() -> None:
    assert generation_bytes(3000) * GENERATIONS <= 3000


def written(folder: Path) -> Path:
    """A line a second from 20:00:00 UTC on, the odd ones on stderr, the third one with another offset."""
    log = folder / "log"
    rows = [f"2026-11-23T20:00:0{n}.500000000+00:00 {('stdout', 'stderr')[n % 2]} F {n}\n" for n in range(8)]
    rows[3] = rows[3].replace("T20:", "T21:").replace("+00:00", "+01:00")
    log.write_text("".join(rows))
    return log


EIGHT_PM = 1_795_464_000.0


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), "01234567"),
        (Wanted(since=EIGHT_PM + 3.5), "34567"),
        (Wanted(until=EIGHT_PM + 3.5), "0123"),
        (Wanted(since=EIGHT_PM + 2, until=EIGHT_PM + 4), "23"),
        (Wanted(stream="stderr"), "1357"),
        (Wanted(2, stream="stdout"), "46"),
        (Wanted(2, until=EIGHT_PM + 3.5), "23"),
        (Wanted(0, since=EIGHT_PM), ""),
        (Wanted(since=EIGHT_PM + 60), ""),
    ],
)
def test_which_lines_are_wanted(tmp_path: Path, wanted: Wanted, expected: str) -> None:
    log = written(tmp_path)
    assert "".join(one.text for one in read(log, wanted=wanted, follow=False, ended=lambda: True)) == expected


def test_following_ends_with_the_wanted_time(tmp_path: Path) -> None:
    log = written(tmp_path)
    wanted = Wanted(until=EIGHT_PM + 1)
    assert [one.text for one in read(log, wanted=wanted, follow=True, ended=lambda: False)] == ["0"]


def replaced_by(log: Path, text: str) -> None:
    """As conmon does it."""
    (log.parent / "log.tmp").write_text(line(text))
    (log.parent / "log.tmp").rename(log)


def told(reader: Reader) -> list[tuple[str, int]]:
    """All that is fresh, and what was told to be lost before it."""
    found = []
    while raw := reader.fresh():
        lost = reader.lost()
        for one in raw:
            found.append((one.decode().split(" F ")[1], lost))
            lost = 0
    return found


def test_what_is_replaced_between_two_reads_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("a"))
    reader = Reader(log)
    assert told(reader) == [("a", 0)]
    replaced_by(log, "b")
    assert told(reader) == [("b", 0)]
    for text in "cde":
        replaced_by(log, text)
    assert told(reader) == [("e", 2 * len(line("b")))]
    assert reader.lost() == 0
    reader.close()


def test_what_is_kept_of_what_was_replaced_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("a"))
    reader = Reader(log)
    assert told(reader) == [("a", 0)]
    for hours, text in enumerate("bcdefg", 1):
        replaced_by(log, text)
        later = 2_000_000_000 + 3600 * hours
        os.utime(log, (later, later))  # as far apart as rotations are, not as two ticks of the clock
        if text != "e":
            keep_previous(log)
        if text == "c":
            assert told(reader) == [("b", 0), ("c", 0)]
    assert told(reader) == [("f", 2 * len(line("c"))), ("g", 0)]
    reader.close()


def test_a_log_that_began_and_was_replaced_unread_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = Reader(log)
    log.write_text(line("a"))
    replaced_by(log, "b")
    assert told(reader) == [("b", len(line("b")))]
    reader.close()


def test_readers_of_one_log_are_told_each(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("a"))
    first, second = Reader(log), Reader(log)
    assert told(first) == told(second) == [("a", 0)]
    replaced_by(log, "b")
    replaced_by(log, "c")
    assert told(first) == [("c", len(line("a")))]
    first.close()
    replaced_by(log, "d")
    assert told(second) == [("d", 2 * len(line("a")))]
    second.close()


def test_a_follower_hears_of_a_gap_with_the_next_line_that_it_wants(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("a"))
    lines = read(log, wanted=Wanted(), follow=True, ended=lambda: True)
    assert next(lines).lost_before == 0
    replaced_by(log, "b")
    replaced_by(log, "c")
    assert [(one.text, one.lost_before) for one in lines] == [("c", len(line("a")))]


def test_a_flood_is_read_in_order_and_what_is_missing_is_told(tmp_path: Path) -> None:
    """A slow reader of a log that is replaced every 50 lines: every line is read, or in a gap that was told."""
    log = tmp_path / "log"
    log.write_text("".join(line(f"{n:06}") for n in range(50)))
    reader = Reader(log)
    writer = f"""
import os
for start in range(50, 20_000, 50):
    with open({str(log)!r} + ".tmp", "w", 1) as fresh:
        os.rename({str(log)!r} + ".tmp", {str(log)!r})
        for n in range(start, start + 50):
            print({AT!r}, "stdout F", format(n, "06"), file=fresh)
"""
    flood = subprocess.Popen([sys.executable, "-c", writer])
    last, missing, lost, over = -1, 0, 0, False
    while not over:
        over = flood.poll() is not None
        while raw := reader.fresh(1000):
            gap = reader.lost()
            lost += gap
            for one in raw:
                number = int(one[-6:])
                assert number > last
                if number > last + 1:
                    assert gap
                    missing += number - last - 1
                last, gap = number, 0
            time.sleep(0.002)  # as one that prints
    reader.close()
    assert flood.returncode == 0
    assert last == 19_999
    assert lost == missing * len(line("000000")) > 0


def pieces(*texts: str) -> str:
    """One line, as conmon writes what is long."""
    tags = ["P"] * (len(texts) - 1) + ["F"]
    return "".join(f"{AT} stdout {tag} {text}\n" for tag, text in zip(tags, texts, strict=True))


@pytest.mark.parametrize("stream", [None, "stdout"])
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (0, []),
        (1, ["b1", "b2"]),
        (2, ["short", "b1", "b2"]),
        (3, ["a1", "a2", "a3", "short", "b1", "b2"]),
        (4, ["first", "a1", "a2", "a3", "short", "b1", "b2"]),
        (9, ["first", "a1", "a2", "a3", "short", "b1", "b2"]),
    ],
)
def test_the_last_lines_are_whole_ones(
    tmp_path: Path, last: int, expected: list[str], stream: Literal["stdout"] | None
) -> None:
    log = tmp_path / "log"
    log.write_text(line("first") + pieces("a1", "a2", "a3") + line("short") + pieces("b1", "b2"))
    found = read(log, wanted=Wanted(last, stream=stream), follow=False, ended=lambda: True)
    assert [one.text for one in found] == expected


def test_the_last_line_may_be_unfinished(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("first") + f"{AT} stdout P half\n{AT} stdout P way\n")
    found = read(log, wanted=Wanted(1), follow=False, ended=lambda: True)
    assert [one.text for one in found] == ["half", "way"]
