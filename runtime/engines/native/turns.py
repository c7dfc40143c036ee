"""Turns: no more containers are started at once than the node's processors get something out of.

A start is work of the processors, mostly.  Twenty-four that share two of them all end at the end; a few at a time end one after the
other, most of them sooner and the last no later.  It is a matter of speed alone: who has waited for long enough goes ahead, so a start that
hangs holds nobody up for good, and another process has turns of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator

EACH_PROCESSOR = 4
"""Measured: of 24 on two processors the median took 0.65 of the time that it takes when all share, and the last as long."""
PATIENCE_S = 10.0


class Turns:
    def __init__(self, at_once: int | None = None, patience_s: float = PATIENCE_S) -> None:
        """``at_once``: None is ``EACH_PROCESSOR`` for each processor that this process may use."""
        self._free = at_once or EACH_PROCESSOR * len(os.sched_getaffinity(0))
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """In the order of those who come."""
        taken = self._take()
        try:
            yield
        finally:
            if taken:
                self._give()

    def _take(self) -> bool:
        """False: it goes ahead without."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            called = threading.Event()
            self._waiting.append(called)
        if called.wait(self._patience_s):
            return True
        with self._lock:
            if called.is_set():  # in this moment
                return True
            self._waiting.remove(called)
            return False

    def _give(self) -> None:
        """To whoever has waited for longest: who comes just now does not get in before them."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
