"""A container without a disk limit that is about to fill the node's disk, found before it has.

One with a disk limit has a file system of its own; one without writes to the node's, of which all have the one free room.  A limit for
everybody would cost each launch a file system, and project quotas not every node has.  So each second one statvfs(3) is made, and no
more as long as a tenth of the disk (8 GiB at most) and of its inodes is free.  With less, and when at the pace of the last second the
rest would be gone within a minute, what each such container holds is counted twice.  One that grows so fast that it alone would
take the rest within a minute is the flooder.  Where nobody does, nobody is touched: it may be an image, a volume with a limit, the node itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime import logs
from runtime.api import ContainerSpec, State
from runtime.engines.native.records import Records
from runtime.errors import RuntimeFault
from runtime.home import Home
from runtime.storage.usage import Kind, held
from runtime.storage.volumes import DATA, VolumeStore

SHARE, MOST_BYTES = 0.1, 8 * 2**30
"""What is free when the watch begins to look: of bytes the lesser of both."""
WITHIN_S = 60.0
BETWEEN_S = 1.0
FLOODED = "it was filling the node's disk"

logger = logs.of(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    at: float
    """Seconds, monotonic."""
    free: Mapping[Kind, int]
    """For those who are not root."""
    nearly_full: frozenset[Kind]

    def pace(self, before: Room, kind: Kind) -> float:
        """Taken a second."""
        return (before.free[kind] - self.free[kind]) / max(self.at - before.at, 0.001)

    def goes_within(self, pace: float, kind: Kind) -> bool:
        return pace > 0 and pace * WITHIN_S >= self.free[kind]


class Flooding:
    """One for each process that watches; calls are one after another."""

    def __init__(self, home: Home, records: Records) -> None:
        self._home = home
        self._records = records
        self._volumes = VolumeStore(home)
        self._before: Room | None = None

    def found(self) -> str | None:
        """The id of a container that is to be stopped now.  Raises OSError."""
        before, self._before = self._before, room(self._home.state)
        now = self._before
        for kind in now.nearly_full:
            if before is not None and now.goes_within(now.pace(before, kind), kind):
                return self._fastest(kind)
        return None

    def _fastest(self, kind: Kind) -> str | None:
        folders = {spec.id: self._folders(spec) for spec in self._unlimited()}
        everywhere = sorted({folder for of_one in folders.values() for folder in of_one})
        began = time.monotonic()
        first = held(everywhere, kind)
        time.sleep(BETWEEN_S)
        between = time.monotonic() - began
        second = held(everywhere, kind)
        grown = {
            id: sum(second[folder] - first[folder] for folder in of_one if folder in first and folder in second)
            for id, of_one in folders.items()
        }
        id = max(grown, key=grown.__getitem__, default=None)
        if id is None or not room(self._home.state).goes_within(grown[id] / between, kind):
            logger.warning(
                "the node's disk is filling up (%s), and no container without a disk limit is seen to do it", kind
            )
            return None
        logger.warning("%s is filling the node's disk: %d %s in %.1f s", id, grown[id], kind, between)
        return id

    def _unlimited(self) -> list[ContainerSpec]:
        """That run, and may write to the node's disk."""
        here = ((spec, record) for spec, record in self._records.readable() if record.state is State.RUNNING)
        return [spec for spec, _ in here if self._folders(spec)]

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


def room(folder: Path) -> Room:
    found = os.statvfs(folder)
    free: dict[Kind, int] = {"bytes": found.f_bavail * found.f_frsize, "inodes": found.f_favail}
    mark: dict[Kind, float] = {
        "bytes": min(found.f_blocks * found.f_frsize * SHARE, MOST_BYTES),
        "inodes": found.f_files * SHARE,  # a file system that has no table of them says 0
    }
    return Room(time.monotonic(), free, frozenset(kind for kind in free if free[kind] < mark[kind]))
