"""Work for many owners by one pool of threads, of which no owner has more than its share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Task = Callable[[], object]


class Shares:
    """At most ``most`` tasks at once, and ``each`` of one owner; what is over that waits for its owner's own."""

    def __init__(self, most: int, each: int) -> None:
        self._pool = ThreadPoolExecutor(most)
        self._each = each
        self._lock = threading.Lock()
        self._at_work: dict[str, int] = {}
        self._waiting: dict[str, deque[Task]] = {}
        self._closed = False

    def submit(self, owner: str, task: Task) -> None:
        """A task raises nothing.  After :meth:`close` it is not begun."""
        with self._lock:
            if self._at_work.get(owner, 0) >= self._each:
                self._waiting.setdefault(owner, deque()).append(task)
            elif not self._closed:
                self._at_work[owner] = self._at_work.get(owner, 0) + 1
                self._pool.submit(self._run, owner, task)

    def _run(self, owner: str, task: Task) -> None:
        try:
            task()
        finally:
            with self._lock:
                self._follow(owner)

    def _follow(self, owner: str) -> None:
        """Behind what others have asked for meanwhile."""
        waiting = self._waiting.get(owner)
        if waiting and not self._closed:
            following = waiting.popleft()
            if not waiting:
                del self._waiting[owner]
            self._pool.submit(self._run, owner, following)
            return
        self._at_work[owner] -= 1
        if not self._at_work[owner]:
            del self._at_work[owner]

    def close(self, *, wait: bool) -> None:
        """Nothing is begun any more; ``wait``: and what was begun is over."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=wait, cancel_futures=True)
