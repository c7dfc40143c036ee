"""``true`` in a running container, from the call to its exit code, beside docker and podman, taken in turn."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tests.bench._report import Row, beside, main, note
from tests.bench._sides import Side, sides

CONTAINER = "target"
WARM_UP = 2
GOALS, COMMAND_GOALS = (1.0, 1.0), (None, 1.0)
"""docker's client is a compiled program that only asks its daemon: Python's start and the runtime's own are longer than that."""
SPREAD = 2.0


def measure(quick: bool) -> list[Row]:
    programs, commands = (20, 5) if quick else (100, 30)
    with sides() as all_of:
        rows = _rows(all_of.programs, "exec", programs, GOALS, SPREAD)
        return rows + _rows(all_of.commands, "command line: exec", commands, COMMAND_GOALS, None)


def _rows(ways: Sequence[Side], name: str, runs: int, goals: Sequence[float | None], spread: float | None) -> list[Row]:
    note(f"{name}, {runs} runs")
    times: dict[str, list[float]] = {side.name: [] for side in ways}
    for side in ways:
        side.launch(CONTAINER)
    try:
        for number in range(runs + WARM_UP):
            for side in ways:
                took = _once(side)
                if number >= WARM_UP:
                    times[side.name].append(took)
    finally:
        for side in ways:
            side.remove(CONTAINER)
    (_, ours), *others = times.items()
    return beside(name, "ms", ours, dict(others), goals, spread=spread)


def _once(side: Side) -> float:
    began = time.perf_counter()
    code = side.exec(CONTAINER)
    took = (time.perf_counter() - began) * 1000
    if code != 0:
        raise RuntimeError(f"{side.name}: exit code {code}")
    return took


if __name__ == "__main__":
    sys.exit(main("exec", measure))
