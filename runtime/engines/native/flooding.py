"""A container that is about to fill the node's disk, found before it has: one without a disk limit, or one that such a one gives its files.

One with a disk limit has a file system of its own; one without writes to the node's, of which all have the one free room.  A limit for
everybody would cost each launch a file system, and project quotas not every node has.  So each second one statvfs(3) is made, and no
more as long as a tenth of the disk (8 GiB at most) and of its inodes is free.  With less, looks come closer to each other, and likewise when at the
last pace the rest would be gone within seconds (:meth:`Flooding.pause_s`).  When it would be gone within a minute, what each such container
takes is counted (:mod:`runtime.engines.native.takers`).  The flooder is who took most,
if it alone would take the rest within a minute, and took no less than what the node lost in the same interval and nobody was seen to
take.  So whoever writes a little while something unseen takes much is let be: with one unseen, a flooder took half at least.
Only one of which not all could be counted may be ended for what nobody was seen to take, if its processes wrote as much meanwhile
and of all others everything was counted: never for what another container hides.
Where there is none, nobody is touched: it may be an image, a volume with a limit, the node itself.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime import logs
from runtime.api import ContainerSpec, State
from runtime.engines.native.records import Records
from runtime.engines.native.takers import Takers, Took
from runtime.errors import RuntimeFault
from runtime.home import Home
from runtime.storage.usage import Kind
from runtime.storage.volumes import DATA, VolumeStore

SHARE, MOST_BYTES = 0.1, 8 * 2**30
"""What is free when the watch begins to look: of bytes the lesser of both."""
WITHIN_S = 60.0
LOOK_S, LEAST_LOOK_S = 1.0, 0.1
LOOKS = 8
"""So many at least in the time that is left."""
BETWEEN_S, LEAST_BETWEEN_S, BETWEEN_PART, BETWEEN = 1.0, 0.1, 1 / 8, 3
"""Between the counts: so long, or this part of the time that is left, and at least so many times what the first took.  Folders are counted at
its begin and its end and open files in between, so however long counts take most of the interval is common to all.
"""
COUNT_S, COUNT_PART, LEAST_S = 10.0, 1 / 8, 0.5
"""For a count: so long at most, and this part of the time that is left.  So both and what lies between are done in five eighths of it, but where
no more than moments are left.
"""
FLOODED = "it was filling the node's disk"

logger = logs.of(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    at: float
    """Seconds, monotonic."""
    free: Mapping[Kind, int]
    """For those who are not root."""
    mark: Mapping[Kind, float]
    """What is nearly full has less than this."""

    @property
    def nearly_full(self) -> frozenset[Kind]:
        return frozenset(kind for kind in self.free if self.free[kind] < self.mark[kind])

    def pace(self, before: Room, kind: Kind) -> float:
        """Taken a second."""
        return (before.free[kind] - self.free[kind]) / max(self.at - before.at, 0.001)

    def goes_within(self, pace: float, kind: Kind) -> bool:
        return pace > 0 and pace * WITHIN_S >= self.free[kind]

    def left_s(self, before: Room, kind: Kind) -> float:
        """Until all is gone at the pace since then; infinite where nothing was taken."""
        pace = self.pace(before, kind)
        return self.free[kind] / pace if pace > 0 else math.inf


class Flooding:
    """One for each process that watches; calls are one after another."""

    def __init__(self, home: Home, records: Records) -> None:
        self._home = home
        self._records = records
        self._volumes = VolumeStore(home)
        self._before: Room | None = None
        self._pause_s = LOOK_S
        self._slow: frozenset[Path] = frozenset()
        """Folders that could not be counted in time, the last time."""

    def pause_s(self) -> float:
        """Until the next look is due: a second, and less on a disk that is nearly full or fills in seconds."""
        return self._pause_s

    def found(self) -> str | None:
        """The id of a container that is to be stopped now.  Raises OSError."""
        before, self._before = self._before, room(self._home.state)
        now = self._before
        self._pause_s = pause_s(now, before)
        for kind in now.nearly_full:
            if before is not None and now.goes_within(now.pace(before, kind), kind):
                id = self._flooder(kind, now.left_s(before, kind))
                if id is not None:
                    return id
        return None

    def _flooder(self, kind: Kind, left_s: float) -> str | None:
        takers = Takers(self._home, self._reaching(), self._folders)
        within_s = max(LEAST_S, min(COUNT_S, left_s * COUNT_PART))
        began = room(self._home.state)
        first = takers.before(kind, within_s, self._slow)
        between_s = max(LEAST_BETWEEN_S, min(BETWEEN_S, left_s * BETWEEN_PART))
        time.sleep(max(between_s, BETWEEN * (time.monotonic() - began.at)))
        second = takers.after(first, kind, within_s)
        end = room(self._home.state)
        self._slow = takers.uncounted(second)
        took = takers.took(first, second, kind)
        if took.suspects:
            logger.warning("not all that these hold of the disk could be counted in time: %s", ", ".join(took.suspects))
        return flooder(took, began, end, kind)

    def _reaching(self) -> list[ContainerSpec]:
        """That run, and may write to the node's disk or hold what others wrote there."""
        here = ((spec, record) for spec, record in self._records.readable() if record.state is State.RUNNING)
        return [spec for spec, _ in here if spec.volumes or self._folders(spec)]

    def _folders(self, spec: ContainerSpec) -> list[Path]:
        own = [] if spec.limits.disk_bytes is not None else [self._home.container(spec.id) / "upper"]
        written = [one.volume for one in spec.volumes if not one.read_only]
        open_ended = [name for name in written if self._is_open(spec, name)]
        return own + [self._volumes.folder(spec.tenant, name) / DATA for name in open_ended]

    def _is_open(self, spec: ContainerSpec, volume: str) -> bool:
        """A volume without a size."""
        try:
            return self._volumes.read(spec.tenant, volume).spec.size_bytes is None
        except RuntimeFault:
            return False


def flooder(took: Took, before: Room, now: Room, kind: Kind) -> str | None:
    """Of those who took something between two looks at the room."""
    lost = before.free[kind] - now.free[kind]
    grown = took.of_lost(lost)
    unseen = lost - sum(grown.values())
    id = max(grown, key=grown.__getitem__, default=None)
    if id is None or grown[id] < unseen or not now.goes_within(grown[id] / (now.at - before.at), kind):
        if lost > 0:
            logger.warning(
                "the node's disk is filling up (%s), and no container is seen to do it: of %d %d were not seen",
                kind, lost, unseen,
            )  # fmt: skip
            if took.hiding:
                logger.warning(
                    "messages in sockets of these hold files that cannot be seen: %s", ", ".join(sorted(took.hiding))
                )
        return None
    logger.warning(
        "%s is filling the node's disk: %d of %d %s in %.1f s", id, grown[id], lost, kind, now.at - before.at
    )
    return id


def pause_s(now: Room, before: Room | None) -> float:
    """Between this look and the next: of a nearly full disk the shorter the less of it is left, also while nobody takes any."""
    by_room = [LOOK_S * now.free[kind] / now.mark[kind] for kind in now.nearly_full]
    by_pace = [now.left_s(before, kind) / LOOKS for kind in now.free] if before is not None else []
    return max(LEAST_LOOK_S, min([LOOK_S, *by_room, *by_pace]))


def room(folder: Path) -> Room:
    found = os.statvfs(folder)
    free: dict[Kind, int] = {"bytes": found.f_bavail * found.f_frsize, "inodes": found.f_favail}
    mark: dict[Kind, float] = {
        "bytes": min(found.f_blocks * found.f_frsize * SHARE, MOST_BYTES),
        "inodes": found.f_files * SHARE,  # a file system that has no table of them says 0
    }
    return Room(time.monotonic(), free, mark)
