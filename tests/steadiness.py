"""Whether processes that work for long stay as large as they are: memory and descriptors, looked at each second, judged at the end.

Two judgements, and both must find growth.  The trend is the slope of a least-squares line through all looks after the warm-up.  The
quarters are the medians of its first and its last.  A line alone is bent by one late step, quarters alone by noise.  Of memory the least
of each twentieth of the time counts: what is taken for a moment is given back, and what is kept is in the least as well.  Processes that
do the same are judged by their mean: what leaks does so in all of them, and on a busy machine one has gone from 17.7 to 21.4 MiB while
another went from 23.9 to 21.9.

What is looked at is what a process needs, not what malloc keeps for it: each gives back what is free, once a second (``giving_back``).
Else a soak of five minutes sees arenas fill up.  libnftables takes half a mebibyte for each table of the node while a batch runs (3.3 MiB,
measured by mallinfo2(3)), in whichever arena the thread has, and of a worker's 26.9 MiB after 2,017 lives 7.3 were such leavings, while
what was in use had stayed the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY_S = 1.0
WARM_UP = 0.2
"""The share of the time in which a process takes what it needs."""
MEMORY_BYTES, MEMORY_SHARE = 3 * 2**20, 0.05
"""More than both of these, over the whole time, is growth.  A worker goes to and fro between two sizes that are 2.1 MiB apart, as a thread
amid a batch lets its arena be trimmed or not: 20.6 and 22.8 MiB from the first minute to the fifth.
"""
PARTS = 20
DESCRIPTORS = 8
"""Each of eight threads may be amid something else than a while ago."""


_libc = ctypes.CDLL(None)


def give_back() -> None:
    """What malloc keeps of this process's memory and nobody uses goes to the kernel (malloc_trim(3))."""
    _libc.malloc_trim(0)


def giving_back() -> None:
    """From now on, in a thread that ends with the process."""

    def go_on() -> None:
        while True:
            give_back()
            time.sleep(EVERY_S)

    threading.Thread(target=go_on, daemon=True).start()


@dataclass(frozen=True, slots=True)
class Look:
    at: float
    """Seconds, monotonic."""
    memory: int
    """Bytes: resident and its own, without what it maps of files (proc(5), statm: resident - shared)."""
    descriptors: int


@dataclass(slots=True)
class Watched:
    alike: Sequence[Sequence[int]]
    """Processes, those together that do the same."""
    allowed: Mapping[int, int] = field(default_factory=dict)
    """More descriptors than ``DESCRIPTORS`` that one of them may have at a time and not at another."""
    looks: dict[int, list[Look]] = field(default_factory=dict)
    _last: float = 0.0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Looks while the block runs, beside it; the others of its processes give back by themselves."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(EVERY_S / 4):
                give_back()
                self.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def look(self) -> None:
        """At most once a second; a process that has ended is left out."""
        now = time.monotonic()
        if now - self._last < EVERY_S:
            return
        self._last = now
        for pid in chain.from_iterable(self.alike):
            try:
                _, resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[:3])
                descriptors = len(os.listdir(f"/proc/{pid}/fd"))
            except (FileNotFoundError, ProcessLookupError):
                continue
            if resident:  # a zombie has none
                self.looks.setdefault(pid, []).append(Look(now, (resident - shared) * PAGE, descriptors))

    def growing_memory(self) -> list[str]:
        """A sentence for all of a kind that grow; empty when none does."""
        found = []
        for pids in self.alike:
            change = _memory(self._mean(pids))
            if change is not None:
                allowed = max(MEMORY_BYTES, MEMORY_SHARE * change.first)
                if change.trend > allowed and change.last - change.first > allowed:
                    names = ", ".join(map(str, pids))
                    found.append(
                        f"the memory of {names} grows: {change.first:.0f} -> {change.last:.0f}, trend {change.trend:+.0f}"
                    )
        return found

    def _mean(self, pids: Sequence[int]) -> list[Look]:
        """At the times at which all of them were there."""
        each = [{one.at: one for one in self.looks.get(pid, ())} for pid in pids]
        times = sorted(set.intersection(*map(set, each)))
        return [
            Look(at, sum(looks[at].memory for looks in each) // len(each), max(looks[at].descriptors for looks in each))
            for at in times
        ]

    def growing_descriptors(self) -> list[str]:
        found = []
        for pid, looks in self.looks.items():
            change = _changed(looks, [one.descriptors for one in looks])
            allowed = DESCRIPTORS + self.allowed.get(pid, 0)
            if change is not None and change.trend > allowed and change.last - change.first > allowed:
                found.append(f"{pid} keeps descriptors: {change.first:g} -> {change.last:g}")
        return found

    def report(self) -> str:
        """First and last quarter, and the trend over the whole time, of each process."""
        lines = []
        for pid, looks in self.looks.items():
            memory = _memory(looks)
            descriptors = _changed(looks, [one.descriptors for one in looks])
            if memory and descriptors:
                lines.append(
                    f"process {pid}: memory {memory.first / 2**20:.1f} -> {memory.last / 2**20:.1f} MiB, trend"
                    f" {memory.trend / 2**20:+.2f} MiB; descriptors {descriptors.first:g} -> {descriptors.last:g},"
                    f" {len(looks)} looks"
                )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Change:
    first: float
    """The median of the first quarter after the warm-up."""
    last: float
    trend: float
    """The line's rise over all of that time."""


def _memory(looks: Sequence[Look]) -> _Change | None:
    together = max(1, len(looks) // PARTS)
    least = [min(looks[at : at + together], key=lambda one: one.memory) for at in range(0, len(looks), together)]
    return _changed(least, [one.memory for one in least])


def _changed(looks: Sequence[Look], values: Sequence[float]) -> _Change | None:
    """None: fewer than eight looks after the warm-up tell nothing."""
    if not looks:
        return None
    begin = looks[0].at + WARM_UP * (looks[-1].at - looks[0].at)
    points = [(look.at, value) for look, value in zip(looks, values, strict=True) if look.at >= begin]
    if len(points) < 8:
        return None
    quarter = len(points) // 4
    first, last = (statistics.median(value for _, value in part) for part in (points[:quarter], points[-quarter:]))
    slope, _ = statistics.linear_regression(*zip(*points, strict=True))
    return _Change(first, last, slope * (points[-1][0] - points[0][0]))
