"""What must be done for containers at its time, by whichever process keeps them: the agent, or ``python -m runtime watch``.

Restarts that policies have decided on are carried out when they are due, what runs is asked for its health, images make room when the disk is
nearly full, and a container that is about to fill it, or to take the node's memory by what no cgroup counts, is ended.  Any number of keepers may run at once: the engine starts each once, and
remembers the verdict of whoever saw a change.
"""

from __future__ import annotations

import heapq
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol, runtime_checkable

from runtime.api import ContainerStatus, Engine, HealthState, Outcome, Watched
from runtime.errors import Conflict, NotFound, RuntimeFault
from runtime.shares import Shares

log = logging.getLogger(__name__)
REFRESH_S = 10.0
STARTS_AT_ONCE, CHECKS_AT_ONCE = 16, 32
OF_A_TENANT = 4
"""Of either: a check may take its five minutes and a start one, and all that a tenant has may do so on purpose."""
LONGEST_S = 60.0
ROOM_EVERY_S = 60.0
"""Between two looks at how full the disk is."""
FIRST_CHECK_S = 1.0
"""After a start, and between checks while no failure counts."""

AT_WORK = -math.inf

Seen = Callable[[ContainerStatus], None]
Work = tuple[Literal["start", "check"], str]


@runtime_checkable
class GuardsNode(Protocol):
    """An engine whose containers may fill a disk of the node's, or its memory."""

    def disk_pause_s(self) -> float: ...
    def guard_disk(self) -> ContainerStatus | None: ...
    def memory_pause_s(self) -> float: ...
    def guard_memory(self) -> ContainerStatus | None: ...


@dataclass(frozen=True, slots=True)
class Guard:
    what: str
    pause_s: Callable[[], float]
    look: Callable[[], ContainerStatus | None]


@dataclass(slots=True)
class Course:
    """How the checks of one start go on."""

    watched: Watched
    failures: int = 0
    known: float = field(default_factory=time.monotonic)
    """Since when: the clock may be set back."""

    def after(self, outcome: Outcome, now: float) -> HealthState:
        """The verdict after one more check."""
        check, state = self.watched.check, self.watched.state
        if outcome.ok:
            self.failures, state = 0, "healthy"
        elif not self._spared(now):
            self.failures += 1
            if self.failures >= check.retries:
                state = "unhealthy"
        self.watched = Watched(check, self.watched.epoch, self.watched.started_at, state)
        return state

    def _spared(self, now: float) -> bool:
        """Whether a failure does not count yet."""
        period_s = self.watched.check.start_period_s
        spared = now < self.watched.started_at + period_s and time.monotonic() < self.known + period_s
        return self.watched.state == "starting" and spared

    def pause_s(self, now: float) -> float:
        """Until the next check."""
        interval_s = self.watched.check.interval_s
        return min(interval_s, FIRST_CHECK_S) if self._spared(now) else interval_s


class Keeper:
    """``seen`` is told each status that the keeper has brought about, in a thread of its pools.

    ``image_marks``: see :meth:`runtime.api.ImageService.make_room`.
    """

    def __init__(
        self, engine: Engine, seen: Seen = lambda _status: None, image_marks: tuple[float, float] = (85.0, 75.0)
    ) -> None:
        self._engine = engine
        self._image_marks = image_marks
        self._seen = seen
        self._changed = threading.Condition()
        self._due: list[tuple[float, Work]] = []
        """By the monotonic clock: what is here is due in its time, however the node's clock is set meanwhile."""
        self._queued: dict[Work, float] = {}
        """When what is queued is due, and :data:`AT_WORK` for what is being done."""
        self._courses: dict[str, Course] = {}
        self._stopped = False
        self._over = threading.Event()

    def note(self, status: ContainerStatus) -> None:
        """Somebody has seen this status: what it waits for is not overlooked until the next refresh."""
        if status.restart_at is not None:
            self._queue_start(status.id, status.restart_at)

    def stop(self) -> None:
        self._over.set()
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def stopped(self) -> bool:
        return self._stopped

    def run(self) -> None:
        """Until :meth:`stop`; checks that are on their way are given up then."""
        beside = [threading.Thread(target=self._make_room, name="image-room")]
        if isinstance(self._engine, GuardsNode):
            for guard in (
                Guard("disk", self._engine.disk_pause_s, self._engine.guard_disk),
                Guard("memory", self._engine.memory_pause_s, self._engine.guard_memory),
            ):
                beside.append(threading.Thread(target=self._guard, args=(guard,)))
        for thread in beside:
            thread.start()
        self._carry_out()
        for thread in beside:
            thread.join()

    def _guard(self, guard: Guard) -> None:
        """A thread of its own for each: to count what containers hold of a disk may take a minute."""
        while not self._over.wait(guard.pause_s()):
            try:
                status = guard.look()
            except Exception:
                log.exception("the node's %s could not be guarded; the next look tries again", guard.what)
                continue
            if status is not None:
                self._tell(status)

    def _make_room(self) -> None:
        """A thread of its own: to delete an image may take longer than what is due waits."""
        above, down_to = self._image_marks
        while not self._over.wait(ROOM_EVERY_S):
            try:
                pruned = self._engine.image_service.make_room(above=above, down_to=down_to)
            except Exception:
                log.exception("no room could be made; the next look tries again")
                continue
            if pruned.gone or pruned.freed_bytes:
                log.warning(
                    "the disk is nearly full: %d bytes of images went: %s", pruned.freed_bytes, ", ".join(pruned.gone)
                )

    def _carry_out(self) -> None:
        refresh_at = 0.0
        starts, checks = Shares(STARTS_AT_ONCE, OF_A_TENANT), Shares(CHECKS_AT_ONCE, OF_A_TENANT)
        try:
            while not self._stopped:
                if time.monotonic() >= refresh_at:
                    self._refresh()
                    refresh_at = time.monotonic() + REFRESH_S
                for work in self._take(refresh_at):
                    (starts if work[0] == "start" else checks).submit(self._tenant(work[1]), partial(self._do, work))
        finally:
            checks.close(wait=False)
            starts.close(wait=True)

    def _tenant(self, id: str) -> str:
        """Empty: nobody knows it any more."""
        try:
            return self._engine.spec(id).tenant
        except (RuntimeFault, OSError):
            return ""

    def _refresh(self) -> None:
        try:
            waiting, watched = self._engine.restarts.waiting(), self._engine.health.watched()
        except (RuntimeFault, OSError, ValueError):
            log.exception("what is to be kept could not be read")
            return
        for id, at in waiting.items():
            self._queue_start(id, at)
        for id in self._courses.keys() - watched.keys():
            self._courses.pop(id, None)
        for id, one in watched.items():
            known = self._courses.get(id)
            if known is None or known.watched.epoch != one.epoch:
                self._courses[id] = Course(one)
            first_s = min(FIRST_CHECK_S, one.check.interval_s)
            self._queue(("check", id), min(one.started_at + first_s - time.time(), first_s))

    def _queue_start(self, id: str, at: float) -> None:
        """Also sooner than it was: somebody has started it meanwhile, and it has ended again."""
        self._queue(("start", id), min(at - time.time(), LONGEST_S), sooner=True)  # also when the clock was set back

    def _queue(self, work: Work, wait_s: float, *, sooner: bool = False) -> None:
        at = time.monotonic() + max(0.0, wait_s)
        with self._changed:
            if work not in self._queued or (sooner and at < self._queued[work]):
                self._queued[work] = at
                heapq.heappush(self._due, (at, work))
                self._changed.notify()

    def _take(self, until: float) -> list[Work]:
        """What is due by now; waits for it, but not beyond ``until`` (monotonic)."""
        with self._changed:
            wait_s = until - time.monotonic()
            if self._due:
                wait_s = min(wait_s, self._due[0][0] - time.monotonic())
            if wait_s > 0 and not self._stopped:
                self._changed.wait(wait_s)
            found = []
            while self._due and self._due[0][0] <= time.monotonic():
                at, work = heapq.heappop(self._due)
                if self._queued.get(work) == at:
                    self._queued[work] = AT_WORK
                    found.append(work)
            return found

    def _do(self, work: Work) -> None:
        kind, id = work
        status, next_s = None, 0.0
        try:
            if kind == "start":
                status = self._engine.restarts.carry_out(id)
            else:
                status, next_s = self._check(id)
        except (NotFound, Conflict):
            log.debug("%s is gone, or runs no longer", id)
        except Exception:
            log.exception("%s of %s failed; the next refresh tries again", kind, id)
        with self._changed:
            self._queued.pop(work, None)
        if next_s:
            self._queue(work, next_s)
        if status is not None:
            self.note(status)
            self._tell(status)

    def _check(self, id: str) -> tuple[ContainerStatus | None, float]:
        """The status if its health has changed, and when to ask again."""
        course = self._courses.get(id)
        if course is None:
            return None, 0.0
        before = course.watched.state
        outcome = self._engine.health.probe(id, given_up=self.stopped)
        if self._stopped:
            return None, 0.0
        state = course.after(outcome, time.time())
        status = None
        if state != before:
            status = self._engine.health.report(id, course.watched.epoch, state, outcome.output)
        return status, course.pause_s(time.time())

    def _tell(self, status: ContainerStatus) -> None:
        try:
            self._seen(status)
        except Exception:
            log.exception("what was done for %s could not be taken in", status.id)
