"""How fast a program may write to its log, what of it is there afterwards, and that nobody who reads can hold it up.

The program is busybox's ``seq``: numbered lines of 96 bytes as fast as it can, into docker's ``json-file``, podman's ``k8s-file`` and ours, with
room for all of them.  The time is from its start to its end, so it has what waits for the logger in it.  Then all is read back by the
side's own way and counted.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from runtime.api import Engine, Image, Limits
from tests import archives
from tests.bench import _ours
from tests.bench._docker import Docker
from tests.bench._podman import Podman
from tests.bench._report import Row, beside, main, note
from tests.bench._sides import sides

LINES, ROUNDS = 500_000, 5
QUICK_LINES, QUICK_ROUNDS = 100_000, 2
TEXT = " a line of the usual length that a program writes, with some words in it, and a number first"
GOALS = (1.0, 1.0)
NOISE = 1.25
"""What two runs of the same may differ by."""
FOLLOWER_GOAL = NOISE
"""A follower that stopped does nothing at all, so it may cost nothing at all."""
WORKERS = 3
"""At a container's log with a session: its program, its supervisor, and the session, whose thread takes every packet, since the supervisor
sends it before it goes on."""
SESSION_GOAL = NOISE * max(1.0, WORKERS / (os.cpu_count() or 1))
"""What a session may cost follows from that: nothing where each of the three has a processor, three halves of the time on two.  It
was 2.0 once, set after a row of 1.5 on two processors; that row was what is to be expected there.  A machine with other work shows more (four
and five times, seen with nine waiting for two processors): then the line waits until the session's thread has its turn, and the row tells
of the machine.
"""
ROOM = 2**32
ENDS_WITHIN_S = 300.0
BEFORE_IT_WRITES = "1"
"""Seconds, in which a reader comes."""

Way = Callable[[str, int], tuple[float, int]]
"""(container's name, lines) -> (seconds, lines that were read back)."""


def measure(quick: bool) -> list[Row]:
    lines, rounds = (QUICK_LINES, QUICK_ROUNDS) if quick else (LINES, ROUNDS)
    with sides() as all_of:
        ways: dict[str, Way] = {
            "ours": lambda id, count: _ours_once(all_of.engine, all_of.image, id, count),
            f"json-file, {all_of.docker.description()}": lambda id, count: _peer_once(all_of.docker, id, count),
            f"k8s-file, {all_of.podman.description()}": lambda id, count: _peer_once(all_of.podman, id, count),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        lost = dict.fromkeys(ways, 0)
        for number in range(rounds):
            for name, way in ways.items():
                note(f"{name}: {lines} lines")
                took, read = way(f"l{number:03d}", lines)
                times[name].append(took * 1e6 / lines)
                lost[name] = max(lost[name], lines - read)
        rows = beside("a line written as fast as it goes", "us", times["ours"],
                      {name: found for name, found in times.items() if name != "ours"}, GOALS)  # fmt: skip
        rows.append(Row("lines a second", "1/s", 1e6 / statistics.median(times["ours"])))
        rows += [Row(f"lines lost of {lines}, at worst", "lines", lost["ours"], theirs, name, 0.0, absolute=True)
                 for name, theirs in lost.items() if name != "ours"]  # fmt: skip
        return rows + _unread(all_of.engine, all_of.image, lines, rounds)


def _program(lines: int) -> tuple[str, ...]:
    return ("seq", "-s", f"{TEXT}\n", "1", str(lines))


def _create(engine: Engine, image: Image, id: str, command: Sequence[str]) -> None:
    limits = Limits(memory_bytes=64 * 2**20, cpu_millis=1000 * (os.cpu_count() or 1), pids=64, log_bytes=ROOM)
    engine.create(replace(_ours.spec(id, image, *command), limits=limits))


def _ours_once(engine: Engine, image: Image, id: str, lines: int) -> tuple[float, int]:
    _create(engine, image, id, _program(lines))
    began = time.perf_counter()
    engine.start(id)
    engine.controls.wait(id, ENDS_WITHIN_S)
    took = time.perf_counter() - began
    read = sum(not line.partial for line in engine.logs(id))  # the supervisor's buffer cuts some in two
    engine.remove(id, force=True)
    return took, read


def _peer_once(peer: Docker | Podman, id: str, lines: int) -> tuple[float, int]:
    """Through its API, but for reading back, which its command line does and ``wc`` counts."""
    wanted = {"Image": archives.REFERENCE, "Cmd": list(_program(lines)), "HostConfig": {"CgroupParent": peer.parent}}
    peer.api.call("POST", f"/containers/create?name={id}", wanted)
    began = time.perf_counter()
    peer.api.call("POST", f"/containers/{id}/start")
    code = peer.api.wait(id)
    took = time.perf_counter() - began
    if code != 0:
        raise RuntimeError(f"{id} ended with {code}")
    shown = peer.run("logs", id).stdout
    peer.api.remove(id)
    return took, shown.count("\n")


# ------------------------------------------------------------------------------------------------ readers


def _unread(engine: Engine, image: Image, lines: int, rounds: int) -> list[Row]:
    """The time between the first and the last line's own time."""

    @contextmanager
    def nobody(_id: str) -> Iterator[None]:
        yield

    @contextmanager
    def follower(id: str) -> Iterator[None]:
        """Reads a line, and then no more."""
        next(engine.logs(id, follow=True))
        yield

    @contextmanager
    def session(id: str) -> Iterator[None]:
        """Attached, and never read."""
        attached = engine.attachments.open(id)
        try:
            yield
        finally:
            attached.close()

    readers = {"nobody": nobody, "a follower that stopped": follower, "a session that is never read": session}
    goals = dict(zip(readers, (None, FOLLOWER_GOAL, SESSION_GOAL), strict=True))
    times: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds):
        for name, reader in readers.items():
            note(f"read by {name}")
            id = f"u{number:03d}{len(name)}"
            _create(
                engine, image, id, ("sh", "-c", f'echo; sleep {BEFORE_IT_WRITES}; exec "$@"', "sh", *_program(lines))
            )
            engine.start(id)
            with reader(id):
                engine.controls.wait(id, ENDS_WITHIN_S)
            times[name].append(_span(engine, id, lines) * 1e6 / lines)
            engine.remove(id, force=True)
    alone = statistics.median(times.pop("nobody"))
    return [
        Row(f"a line with {name}", "us", statistics.median(found), alone, "ours, read by nobody", goals[name])
        for name, found in times.items()
    ]


def _span(engine: Engine, id: str, lines: int) -> float:
    """Seconds."""
    moments = [line.at for line in engine.logs(id) if not line.partial][1:]  # the first told that it runs
    if len(moments) != lines:
        raise RuntimeError(f"{len(moments)} of {lines} lines are in the log of {id}")
    first, last = (datetime.fromisoformat(f"{at[:26]}{at[-6:]}") for at in (moments[0], moments[-1]))
    return (last - first).total_seconds()


if __name__ == "__main__":
    sys.exit(main("logs", measure))
