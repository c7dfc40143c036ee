"""What must be done for containers at its time, by whichever process keeps them: the agent, or ``python -m runtime watch``.

Restarts that policies have decided on are carried out when they are due.  Any number of keepers may run at once: the engine
does each thing once.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from runtime.api import ContainerStatus, Engine
from runtime.errors import NotFound, RuntimeFault

log = logging.getLogger(__name__)
REFRESH_S = 5.0
AT_ONCE = 4
LONGEST_S = 60.0

Seen = Callable[[ContainerStatus], None]


class Keeper:
    """``seen`` is told each status that the keeper has brought about, in a thread of its pool."""

    def __init__(self, engine: Engine, seen: Seen = lambda _status: None) -> None:
        self._engine = engine
        self._seen = seen
        self._changed = threading.Condition()
        self._due: list[tuple[float, str]] = []
        self._queued: set[str] = set()
        self._stopped = False

    def note(self, status: ContainerStatus) -> None:
        """Somebody has seen this status: what it waits for is not overlooked until the next refresh."""
        if status.restart_at is not None:
            self._queue(status.id, status.restart_at)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def run(self) -> None:
        """Until :meth:`stop`."""
        refresh_at = 0.0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="keeper") as pool:
            while not self._stopped:
                if time.monotonic() >= refresh_at:
                    self._refresh()
                    refresh_at = time.monotonic() + REFRESH_S
                for id in self._take(refresh_at):
                    pool.submit(self._carry_out, id)

    def _refresh(self) -> None:
        try:
            waiting = self._engine.restarts.waiting()
        except (RuntimeFault, OSError, ValueError):
            log.exception("what waits for a restart could not be read")
            return
        for id, at in waiting.items():
            self._queue(id, at)

    def _queue(self, id: str, at: float) -> None:
        at = min(at, time.time() + LONGEST_S)  # also when the clock was set back
        with self._changed:
            if id not in self._queued:
                self._queued.add(id)
                heapq.heappush(self._due, (at, id))
                self._changed.notify()

    def _take(self, until: float) -> list[str]:
        """What is due by now; waits for it, but not beyond ``until`` (monotonic)."""
        with self._changed:
            wait_s = until - time.monotonic()
            if self._due:
                wait_s = min(wait_s, self._due[0][0] - time.time())
            if wait_s > 0 and not self._stopped:
                self._changed.wait(wait_s)
            found = []
            while self._due and self._due[0][0] <= time.time():
                found.append(heapq.heappop(self._due)[1])
            return found

    def _carry_out(self, id: str) -> None:
        try:
            status = self._engine.restarts.carry_out(id)
        except NotFound:
            status = None
        except (RuntimeFault, OSError):
            log.exception("%s could not be started by its restart policy; the next try is soon", id)
            status = None
        with self._changed:
            self._queued.discard(id)
        if status is not None:
            self.note(status)
            self._tell(status)

    def _tell(self, status: ContainerStatus) -> None:
        try:
            self._seen(status)
        except Exception:
            log.exception("the restart of %s could not be taken in", status.id)
