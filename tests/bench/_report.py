"""What every bench prints: a table for a person, one JSON object for a program, from the same rows."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import string
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

NOTE_WIDTH = 58


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.  ``goal`` is the largest ratio that meets it or, where ``absolute``, the largest value of ours."""

    row: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    goal: float | None = None
    absolute: bool = False

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None

    @property
    def ok(self) -> bool | None:
        """None: there is no goal."""
        value = self.ours if self.absolute else self.ratio
        return None if self.goal is None or value is None else value <= self.goal

    def as_json(self) -> dict[str, object]:
        known = {name: value for name, value in asdict(self).items() if name != "absolute"}
        return {**known, "ratio": self.ratio, "ok": self.ok}


@dataclass(slots=True)
class Report:
    bench: str
    rows: list[Row] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return {"bench": self.bench, "machine": machine(), "rows": [row.as_json() for row in self.rows]}

    def _letters(self) -> dict[str, str]:
        """Each peer's name and its mark in the table."""
        names = dict.fromkeys(row.peer_name for row in self.rows if row.peer_name)
        return dict(zip(names, string.ascii_lowercase, strict=False))

    def table(self) -> str:
        known = machine()
        lines = [f"{self.bench}: {', '.join(f'{name} {value}' for name, value in known.items())}", ""]
        lines.append(f"{'row':<{NOTE_WIDTH}}{'unit':>8}{'ours':>10}{'peer':>10}   {'ratio':>8}{'goal':>8}  ok")
        letters = self._letters()
        for row in self.rows:
            verdict = {None: "", True: "yes", False: "NO"}[row.ok]
            peer = f"{_shown(row.peer):>10} {letters.get(row.peer_name, ''):<2}"
            figures = f"{_shown(row.ours):>10}{peer}{_shown(row.ratio):>8}{_shown(row.goal):>8}"
            lines.append(f"{row.row:<{NOTE_WIDTH}}{row.unit:>8}{figures}  {verdict}")
        return "\n".join([*lines, "", *(f"peer {letter}: {name}" for name, letter in letters.items())])


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def machine() -> dict[str, str]:
    memory = next(
        int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    return {
        "cpus": str(os.cpu_count()),
        "memory": f"{memory / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def percentile(values: Sequence[float], part: int) -> float:
    """``part`` in 1-99; by nearest rank, so it is a value that was measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-len(ordered) * part // 100) - 1)]


def compare(
    name: str, unit: str, ours: Sequence[float], peer: Sequence[float], *, peer_name: str, goal: float | None
) -> list[Row]:
    """The medians, judged by the goal, and p99 of both beside each other."""
    return [
        Row(f"{name}, p50 of {len(ours)}", unit, statistics.median(ours), statistics.median(peer), peer_name, goal),
        Row(f"{name}, p99 of {len(ours)}", unit, percentile(ours, 99), percentile(peer, 99), peer_name),
    ]


def beside(
    name: str,
    unit: str,
    ours: Sequence[float],
    peers: Mapping[str, Sequence[float]],
    goals: Sequence[float | None],
    *,
    spread: float | None = None,
) -> list[Row]:
    """Ours beside several: medians judged by a goal each (None: told, not judged), and p99, which then no peer's is to be below.

    ``spread``: the largest that our own p99 may be, in medians.
    """
    rows = []
    for (peer, theirs), goal in zip(peers.items(), goals, strict=True):
        p50, p99 = compare(name, unit, ours, theirs, peer_name=peer, goal=goal)
        rows += [p50, replace(p99, goal=None if goal is None else 1.0)]
    if spread is not None:
        value = percentile(ours, 99) / statistics.median(ours)
        rows.append(Row(f"{name}, p99 of {len(ours)} in medians", "x", value, goal=spread, absolute=True))
    return rows


def note(text: str) -> None:
    """Progress goes to standard error, so that --json stays one object."""
    print(text, file=sys.stderr, flush=True)


def main(bench: str, measure: Callable[[bool], list[Row]]) -> int:
    """``measure(quick)`` makes the rows.  SIGTERM is Ctrl-C here: either way everything is taken away again."""
    parser = argparse.ArgumentParser(prog=f"bench {bench}")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer runs, under 50 s")
    chosen = parser.parse_args()

    def interrupted(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    try:
        report = Report(bench, measure(chosen.quick))
    except KeyboardInterrupt:
        note("interrupted; everything that was started is removed")
        return 130
    print(json.dumps(report.as_json()) if chosen.json else report.table())
    return 1 if any(row.ok is False for row in report.rows) else 0
