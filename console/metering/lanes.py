"""Several transactions side by side, where the database gains by it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection, connections

Part = TypeVar("Part")
Found = TypeVar("Found")
LANES = 2
"""One's rows are stored by the server while the other's are made here."""


def run(work: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
    """``work`` of each part, a transaction of its own; what it returns, in no order.

    On PostgreSQL in threads, each with its own connection: so two parts at once must not wait for each other in a circle.
    SQLite has one writer, and within a transaction of the caller's there is one connection: there they come one by one.
    An error ends its lane; the other does the parts that are left, and then it is raised.
    """
    if len(parts) < LANES or connection.vendor != "postgresql" or connection.in_atomic_block:
        return [work(part) for part in parts]
    waiting = deque(parts)
    with ThreadPoolExecutor(LANES) as pool:
        lanes = [pool.submit(_lane, work, waiting) for _ in range(LANES)]
    return [one for lane in lanes for one in lane.result()]


def _lane(work: Callable[[Part], Found], waiting: deque[Part]) -> list[Found]:
    try:
        return [work(part) for part in _taken(waiting)]
    finally:
        connections.close_all()


def _taken(waiting: deque[Part]) -> Iterator[Part]:
    while True:
        try:
            part = waiting.popleft()  # of threads one gets it
        except IndexError:
            return
        yield part
