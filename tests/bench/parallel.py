"""Launches and forced removals, 1, 8 and 24 at once, beside docker and podman, taken in turn.

Of each way in (:mod:`tests.bench._sides`): a thread for each of the containers, all let go at the same instant; what each of them waited,
and how long all of them took, divided by their number.  Programs that call an API and people at a shell are measured apart.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.bench._report import Row, beside, main, note
from tests.bench._sides import Side, sides

AT_ONCE = {1: 100, 8: 13, 24: 5}
"""And how many rounds of it: about a hundred samples of each."""
QUICK = {1: 5, 8: 1, 24: 1}
COMMANDS_AT_ONCE, QUICK_COMMANDS = {1: 100, 8: 13}, {1: 2}
COMMAND_GOALS: dict[str, tuple[float | None, ...]] = {"launch": (1.0, 1.0), "removal": (1.0, 1.0)}
GOALS: dict[str, tuple[float | None, ...]] = {"launch": (0.25, 1.0), "removal": (1.0, 1.0)}
"""Beside docker, beside podman."""
SPREAD = 2.0


@dataclass(slots=True)
class Times:
    """Milliseconds."""

    launch: list[float] = field(default_factory=list)
    remove: list[float] = field(default_factory=list)
    launch_each: list[float] = field(default_factory=list)
    """All of a round, divided by their number."""
    remove_each: list[float] = field(default_factory=list)


def measure(quick: bool) -> list[Row]:
    with sides() as all_of:
        for side in (*all_of.programs, *all_of.commands):
            _round(side, "warm", 2, Times())
        rows = []
        for count, rounds in (QUICK if quick else AT_ONCE).items():
            rows += _rows(all_of.programs, "", count, rounds, GOALS, SPREAD)
        for count, rounds in (QUICK_COMMANDS if quick else COMMANDS_AT_ONCE).items():
            rows += _rows(all_of.commands, "command line: ", count, rounds, COMMAND_GOALS, None)
        return rows


def _rows(
    ways: Sequence[Side],
    prefix: str,
    count: int,
    rounds: int,
    goals: Mapping[str, Sequence[float | None]],
    spread: float | None,
) -> list[Row]:
    note(f"{prefix}{count} at once, {rounds} rounds")
    times = {side.name: Times() for side in ways}
    for number in range(rounds):
        for side in ways:
            _round(side, f"r{number}", count, times[side.name])
    (_, ours), *others = times.items()
    peers = dict(others)
    rows = beside(f"{prefix}create + start, {count} at once", "ms", ours.launch,
                  {name: one.launch for name, one in peers.items()}, goals["launch"], spread=spread)  # fmt: skip
    rows += beside(f"{prefix}forced removal, {count} at once", "ms", ours.remove,
                   {name: one.remove for name, one in peers.items()}, goals["removal"], spread=spread)  # fmt: skip
    if count == 1:
        return rows
    for name, one in peers.items():
        for what, kind, mine, theirs in (
            ("launched", "launch", ours.launch_each, one.launch_each),
            ("removed", "removal", ours.remove_each, one.remove_each),
        ):
            took, peer = sum(mine) / rounds, sum(theirs) / rounds
            goal = 1.0 if all(goals[kind]) else None
            rows.append(Row(f"{prefix}{what} {count} at once, time for each", "ms", took, peer, name, goal))
    return rows


def _round(side: Side, mark: str, count: int, times: Times) -> None:
    ids = [f"n{mark}x{count}x{number}" for number in range(count)]
    for do, each, whole in (
        (side.launch, times.launch, times.launch_each),
        (side.remove, times.remove, times.remove_each),
    ):
        took, all_of_them = _at_once(do, ids)
        each.extend(took)
        whole.append(all_of_them / count)


def _at_once(do: Callable[[str], object], ids: Sequence[str]) -> tuple[list[float], float]:
    """(of each, of all of them from the first's begin to the last's end).  Raises what any of them raises."""
    gate = threading.Barrier(len(ids))

    def one(id: str) -> tuple[float, float]:
        gate.wait()
        began = time.perf_counter()
        do(id)
        return began, time.perf_counter()

    with ThreadPoolExecutor(len(ids)) as threads:
        spans = list(threads.map(one, ids))
    whole = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return [(end - begin) * 1000 for begin, end in spans], whole * 1000


if __name__ == "__main__":
    sys.exit(main("parallel", measure))
