"""Whom the growth of what several hold is put down to, and who is the flooder."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.engines.native.flooding import Room, flooder, pause_s
from runtime.engines.native.takers import Count, Deeds, Took, took
from runtime.kernel.open_files import Inode, OpenFiles
from runtime.storage.usage import Kind

MIB = 2**20
DISK = 7
A, B, SHARED = Path("/a"), Path("/b"), Path("/shared")
FOLDERS = {"a": [A, SHARED], "b": [B, SHARED]}
HIDDEN = (DISK, 11)


def deeds(
    written: int = 0,
    cpu_ns: int = 0,
    *,
    hidden: dict[Inode, int] | None = None,
    writable: bool = True,
    open: bool = False,
) -> Deeds:
    unlinked = hidden or {}
    return Deeds(OpenFiles(unlinked, set(unlinked) if writable else set(), {DISK} if open else set()), written, cpu_ns)


def count(a: Deeds, b: Deeds, /, **folders: int) -> Count:
    return Count(
        {A: 0, B: 0, SHARED: 0} | {Path(f"/{name}"): number for name, number in folders.items()}, {"a": a, "b": b}
    )


def seen(first: Count, second: Count, kind: Kind = "bytes") -> dict[str, int]:
    return dict(took(FOLDERS, first, second, kind, DISK).seen)


START = count(deeds(), deeds())


@pytest.mark.parametrize(
    ("kind", "a", "b", "expected"),
    [
        ("bytes", deeds(written=3), deeds(written=1), {"a": 75, "b": 25}),
        ("bytes", deeds(cpu_ns=9), deeds(written=1), {"a": 0, "b": 100}),
        ("bytes", deeds(cpu_ns=9), deeds(open=True), {"a": 0, "b": 100}),
        ("bytes", deeds(cpu_ns=9), deeds(cpu_ns=1), {"a": 90, "b": 10}),
        ("bytes", deeds(), deeds(), {"a": 0, "b": 0}),
        ("inodes", deeds(written=9), deeds(cpu_ns=1), {"a": 0, "b": 100}),
    ],
)
def test_a_shared_folder(kind: Kind, a: Deeds, b: Deeds, expected: dict[str, int]) -> None:
    assert seen(START, count(a, b, shared=100), kind) == expected


def test_ones_own_folder_is_ones_own() -> None:
    assert seen(START, count(deeds(), deeds(written=9), a=100)) == {"a": 100, "b": 0}


def test_a_file_without_a_name_is_theirs_who_can_write_to_it() -> None:
    reader, writer = deeds(hidden={HIDDEN: 100}, writable=False), deeds(hidden={HIDDEN: 100})
    assert seen(START, count(reader, writer)) == {"a": 0, "b": 100}
    assert seen(START, count(reader, deeds())) == {"a": 100, "b": 0}, "else theirs who keep it"
    assert seen(START, count(reader, writer), "inodes") == {"a": 0, "b": 1}


def test_what_only_loses_its_name_is_no_growth() -> None:
    named, nameless = count(deeds(), deeds(), a=100), count(deeds(hidden={HIDDEN: 100}), deeds())
    assert seen(named, nameless) == {"a": 0, "b": 0}


def test_of_whom_not_all_was_counted_is_suspected_of_what_it_wrote() -> None:
    without_a = Count({B: 0, SHARED: 0}, {"a": deeds(), "b": deeds()})
    found = took(
        FOLDERS, without_a, Count({B: 10, SHARED: 0}, {"a": deeds(written=90), "b": deeds(written=500)}), "bytes", DISK
    )
    assert found == Took({"a": 0, "b": 10}, {"a": 90})
    unlooked = count(Deeds(None, 90, 0), deeds(), a=50)
    assert took(FOLDERS, count(deeds(hidden={HIDDEN: 7}), deeds()), unlooked, "bytes", DISK) == Took(
        {"a": 50, "b": 0}, {"a": 40}
    )
    assert took(FOLDERS, START, unlooked, "inodes", DISK).suspects == {"a": 0}, "names cost no bytes"


def test_who_has_nothing_on_the_nodes_disk_is_no_suspect_however_much_it_writes_elsewhere() -> None:
    busy = count(deeds(), Deeds(None, 500, 0))
    assert took({"a": [A], "b": []}, START, busy, "bytes", DISK) == Took({"a": 0, "b": 0}, {})


def test_whose_descriptors_are_in_messages_is_named_and_ended_for_nothing_that_another_hides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One writes over its file as it is while the node loses as much to somebody unseen.  It is enough that they were there once."""
    hides = OpenFiles(in_flight=True)
    before, now = (Room(at, {"bytes": free * MIB}, {"bytes": 0.0}) for at, free in ((0.0, 110), (1.0, 100)))
    for first, second in (
        (START, count(Deeds(hides, 10 * MIB, 0), deeds())),
        (count(Deeds(hides, 0, 0), deeds()), count(deeds(10 * MIB), deeds())),
    ):
        found = took(FOLDERS, first, second, "bytes", DISK)
        assert found == Took({"a": 0, "b": 0}, {}, frozenset("a"))
        caplog.clear()
        assert flooder(found, before, now, "bytes") is None
        assert caplog.messages[-1].endswith("cannot be seen: a")


@pytest.mark.parametrize(
    ("free", "a_second_ago", "expected"),
    [
        (1000, 1000, 1.0),
        (1000, 900, 1.0),
        (1000, 1100, 1.0),
        (1000, 1250, 0.5),
        (100, 100, 1.0),
        (50, 50, 0.5),
        (50, 75, 0.25),
        (50, 150, 0.1),
        (0, 0, 0.1),
    ],
)
def test_looks_come_closer_as_the_room_shrinks(free: int, a_second_ago: int, expected: float) -> None:
    """With a mark of 100; at least eight looks are in what is left."""
    before, now = (Room(at, {"bytes": left}, {"bytes": 100.0}) for at, left in ((0.0, a_second_ago), (1.0, free)))
    assert pause_s(now, before) == expected


def test_the_first_look_knows_no_pace() -> None:
    assert pause_s(Room(0.0, {"bytes": 1000}, {"bytes": 100.0}), None) == 1.0
    assert pause_s(Room(0.0, {"bytes": 20}, {"bytes": 100.0}), None) == 0.2


def test_a_suspect_took_what_nobody_was_seen_to_take() -> None:
    for hiding in (frozenset[str](), frozenset("b")):
        found = Took({"a": 100, "b": 0}, {"b": 300}, hiding)
        assert found.of_lost(300) == {"a": 100, "b": 200}
        assert found.of_lost(1000) == {"a": 100, "b": 300}, "no more than it wrote"
        assert found.of_lost(50) == found.seen


@pytest.mark.parametrize(
    "found", [Took({"a": 100, "b": 0}, {"b": 300}, frozenset("a")), Took({"a": 100, "b": 0}, {"a": 0, "b": 300})]
)
def test_no_suspect_took_what_another_may_hide(found: Took) -> None:
    """It may have written over files as they are, while the other had room allocated, which writes nothing."""
    assert found.of_lost(300) == found.seen


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"a": 10 * MIB, "b": MIB}, "a"),
        ({"a": 5 * MIB, "b": 0}, "a"),
        ({"a": 4 * MIB, "b": 0}, None),
        ({"a": 4 * MIB, "b": 3 * MIB, "c": 3 * MIB}, "a"),
        ({"a": 0}, None),
        ({}, None),
    ],
)
def test_the_flooder_took_most_and_no_less_than_was_unseen(seen: dict[str, int], expected: str | None) -> None:
    """Of 10 MiB that the node lost in a second, with 100 left."""
    before, now = (Room(at, {"bytes": free * MIB}, {"bytes": 0.0}) for at, free in ((0.0, 110), (1.0, 100)))
    assert flooder(Took(seen), before, now, "bytes") == expected


def test_who_alone_would_leave_enough_is_none() -> None:
    before, now = (Room(at, {"bytes": free * MIB}, {"bytes": 0.0}) for at, free in ((0.0, 1001), (1.0, 1000)))
    assert flooder(Took({"a": MIB}), before, now, "bytes") is None
