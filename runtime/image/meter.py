"""Progress of a transfer of several blobs at once, and its end: bytes of each that are over, told now and then, never fewer than before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Literal

from runtime.api import Progress, Step
from runtime.errors import DeadlineExceeded

TELL_EVERY_S = 0.1
PARALLEL = 3


@dataclass
class Meter:
    """``until``: monotonic; ``late``: what is said then."""

    progress: Progress
    stage: Literal["download", "upload"]
    total: int
    registry: str
    until: float
    late: DeadlineExceeded
    done: dict[str, int] = field(default_factory=dict)
    told: int = -1
    told_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set once one of the blobs has failed: the others end with their next piece."""

    def at(self, digest: str, size: int) -> None:
        """Raises CancelledError once the transfer has failed elsewhere, DeadlineExceeded when it has taken too long."""
        if self.stopped.is_set():
            raise CancelledError
        if time.monotonic() > self.until:
            raise self.late
        with self.lock:
            self.done[digest] = size
            done = min(sum(self.done.values()), self.total)
            now = time.monotonic()
            if done > self.told and (now - self.told_at >= TELL_EVERY_S or done == self.total):
                self.told, self.told_at = done, now
                self.progress(Step(self.stage, done, self.total, digest[7:19]))

    def together(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Each in a thread, up to ``PARALLEL`` at once, until all are over.  Raises what the first one raised; the others end with it."""
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix=self.stage) as pool:
            futures = [pool.submit(job) for job in jobs]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self.stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
