"""A container that is about to take the node's memory through its sockets: by what no cgroup counts, as messages that nobody receives.

No limit of the kernel's holds them (:mod:`runtime.kernel.unread`): a process needs a netlink socket to know its addresses, each socket may hold
megabytes, and a container has thousands.  Without a watch the node's memory would go within seconds (2 GB in one on one processor), and
the kernel would then end somebody else.  So each second, and sooner the faster memory goes, as for the disk (:func:`flooding.pause_s`),
``MemAvailable`` is read (0.05 ms), and no more as long as a fifth of all (2 GiB at most) is left.  With less, what each container holds so is
counted (8 ms for 100 that have no such socket, 45 ms where half of them serve TCP) when the rest would be gone within :data:`WITHIN_S`, else every
:data:`CALM_S`.  Ended is who holds the most of those that hold more than their whole memory limit.  Where there is none, nobody is touched: the
memory is programs', and those are the kernel's to end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime import logs
from runtime.api import State
from runtime.engines.native.flooding import LEAST_LOOK_S, LOOK_S, Room, pause_s
from runtime.engines.native.records import Records
from runtime.home import Home
from runtime.kernel.unread import Unread, unread

SHARE, MOST_BYTES = 0.2, 2 * 2**30
"""What is left when counts begin: the lesser of both."""
LEAST_BYTES = 16 * 2**20
"""Who holds less than this is let be, however small its limit: a few sockets' worth."""
NEAR = 8
"""With less than so many times the mark looks come closer to each other, at it so many in a second: who keeps the node just above it has no second
for the rest.
"""
WITHIN_S = 10.0
CALM_S = 5.0
"""Between the counts on a node that has little left, and keeps that."""
COUNT_S = 0.5
REST = 4
"""So many times what a count took there is none, so it takes a fifth of one processor's time at most."""
HOARDED = "it was filling the node's memory through its sockets"
MEMINFO = Path("/proc/meminfo")

logger = logs.of(__name__)


@dataclass(frozen=True, slots=True)
class Hoard:
    held: int
    limit: int
    """Both in bytes."""


class Hoarding:
    """One for each process that watches; calls are one after another."""

    def __init__(self, home: Home, records: Records) -> None:
        self._home = home
        self._records = records
        self._before: Room | None = None
        self._calm_until = 0.0
        self._pause_s = LOOK_S

    def pause_s(self) -> float:
        """Until the next look is due."""
        return self._pause_s

    def found(self) -> str | None:
        """The id of a container that is to be stopped now.  Raises OSError."""
        before, self._before = self._before, left()
        now = self._before
        near_s = LOOK_S * now.free["bytes"] / (NEAR * now.mark["bytes"]) if now.mark["bytes"] else LOOK_S
        self._pause_s = max(LEAST_LOOK_S, min(pause_s(now, before), near_s))
        if not now.nearly_full:
            return None
        goes = before is not None and now.left_s(before, "bytes") <= WITHIN_S
        if not goes and now.at < self._calm_until:
            return None
        hoards = self._hoards()
        id = hoarder(hoards)
        end = time.monotonic()
        if id is None:
            self._calm_until, self._pause_s = end + CALM_S, max(self._pause_s, REST * (end - now.at))
        else:
            self._calm_until = 0.0  # there may be more of them
            logger.warning(
                "%s holds %d bytes in its sockets that no cgroup counts, and may have %d of memory; the node has %d left",
                id, hoards[id].held, hoards[id].limit, now.free["bytes"],
            )  # fmt: skip
        return id

    def _hoards(self) -> Mapping[str, Hoard]:
        """Of all that run; after :data:`COUNT_S` of those that were seen, once one of them has too much: many sockets take long to count."""
        found: dict[str, Hoard] = {}
        by = time.monotonic() + COUNT_S
        for spec, record in self._records.readable():
            if record.state is not State.RUNNING:
                continue
            try:
                found[spec.id] = hoard(unread(self._home.netns(spec.id)), spec.limits.memory_bytes)
            except FileNotFoundError:
                continue  # it ends in this moment
            except OSError:
                logger.warning("what %s holds in its sockets could not be counted", spec.id, exc_info=True)
            if time.monotonic() > by and hoarder(found) is not None:
                break
        return found


def hoard(waiting: Unread, limit: int) -> Hoard:
    """Of what TCP and UDP hold its cgroup has counted no more than the limit."""
    return Hoard(waiting.uncounted + max(0, waiting.mixed - limit), limit)


def hoarder(hoards: Mapping[str, Hoard]) -> str | None:
    over = {id: one.held for id, one in hoards.items() if one.held > max(one.limit, LEAST_BYTES)}
    return max(over, key=over.__getitem__, default=None)


def left() -> Room:
    """What the kernel could give to programs, with what it would take back of files' content."""
    rows = (line.split() for line in MEMINFO.read_text(encoding="ascii").splitlines())
    kib = {row[0]: int(row[1]) for row in rows}
    return Room(
        time.monotonic(),
        {"bytes": kib["MemAvailable:"] * 1024},
        {"bytes": min(kib["MemTotal:"] * 1024 * SHARE, MOST_BYTES)},
    )
