"""Which containers take the node's disk: what each holds of it is counted twice, and what grew is put down to who wrote it.

Counted are folders, by their names, and files without a name that processes of the container hold open or mapped.  Those are looked at after the
folders in the first count and before them in the second: a file that loses its name in between is counted once too often before or
not at all after, so it never makes a container seem to grow.

Looked at are, too, containers that write nothing to the node's disk by a folder of their own, but have a volume: a socket in one, be it with
a size or read-only, brings them other containers' files.  What such a one writes to its own disk makes it no suspect.

Of what several containers hold, a volume or an open file, the growth is theirs in the proportion of the bytes that each wrote; where none did,
as by fallocate(2), it is for equal parts theirs who hold a file open for writing on that disk; else in the proportion of the processor's time they
used, which also decides on names: to make one writes no bytes.

A container of which something could not be counted in time (see :func:`runtime.storage.usage.held`, and a look at tens of thousands of open
files) is a suspect: it is taken to have taken, besides what was counted, as much as its processes wrote, if the node lost
as much that nobody was seen to take, and if of no other container anything is unseen: else that one may have taken it.  Of names nothing tells that: such a container goes on, and the log names it.
Who has descriptors in messages that wait to be received is no suspect, only named: what they are open on cannot be seen, many have one for
a good reason, and what such a one writes (over files as they are, to a volume with a size) need not be what the node lost.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.api import ContainerSpec
from runtime.home import Home
from runtime.kernel import open_files
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.open_files import Inode, OpenFiles
from runtime.storage.usage import SHARE, Kind, held

Thing = Path | Inode
"""That takes room: a folder, or a file without a name."""
FOR_FILES = 0.25
"""Of the time for a count, for the open files."""


@dataclass(frozen=True, slots=True)
class Deeds:
    """Of a container's processes at one instant."""

    files: OpenFiles | None
    """None: there were too many to look at."""
    written: int
    """Bytes; as the next one it grows, but for what ends unseen."""
    cpu_ns: int


@dataclass(frozen=True, slots=True)
class Count:
    folders: Mapping[Path, int]
    """Without those that could not be counted in time."""
    deeds: Mapping[str, Deeds]


@dataclass(frozen=True, slots=True)
class Took:
    """Between two counts, in bytes or inodes."""

    seen: Mapping[str, int] = field(default_factory=dict)
    """By container; below 0: given back."""
    suspects: Mapping[str, int] = field(default_factory=dict)
    """Containers of which not all was counted: what each may have taken besides, as far as anything tells."""
    hiding: frozenset[str] = frozenset()
    """Containers with descriptors in messages: what those hold nobody sees, and nobody is ended for it."""

    def of_lost(self, lost: int) -> Mapping[str, int]:
        """What each took when the node lost so much: a suspect what nobody was seen to take, where there is no other that it may be."""
        unseen = max(0, lost - sum(self.seen.values()))
        alone = len(self.suspects.keys() | self.hiding) == 1
        return {id: took + (min(self.suspects.get(id, 0), unseen) if alone else 0) for id, took in self.seen.items()}


class Takers:
    """Counts of the containers that it is made for; ``folders`` are those of each that lie open to the node's disk."""

    def __init__(
        self, home: Home, specs: Sequence[ContainerSpec], folders: Callable[[ContainerSpec], list[Path]]
    ) -> None:
        self._home = home
        self._specs = specs
        self._folders = {spec.id: folders(spec) for spec in specs}
        self._devices = self._all_devices()

    def before(self, kind: Kind, within_s: float, last: frozenset[Path] = frozenset()) -> Count:
        """``last``: folders that are known to take long come at the end, when the others are done."""
        everywhere = {folder for of_one in self._folders.values() for folder in of_one}
        ordered = sorted(everywhere, key=lambda folder: (folder in last, folder))
        counted = held(ordered, kind, time.monotonic() + within_s * (1 - FOR_FILES))
        return Count(counted, self._deeds(within_s * FOR_FILES))

    def after(self, first: Count, kind: Kind, within_s: float) -> Count:
        """Of what the first one could count."""
        deeds = self._deeds(within_s * FOR_FILES)
        return Count(held(list(first.folders), kind, time.monotonic() + within_s * (1 - FOR_FILES)), deeds)

    def uncounted(self, count: Count) -> frozenset[Path]:
        return frozenset(folder for of_one in self._folders.values() for folder in of_one) - count.folders.keys()

    def took(self, first: Count, second: Count, kind: Kind) -> Took:
        return took(self._folders, first, second, kind, self._home.state.stat().st_dev)

    def _deeds(self, within_s: float) -> dict[str, Deeds]:
        """A container with very many open files takes no other's time."""
        by = time.monotonic() + within_s
        found: dict[str, Deeds] = {}
        for spec in self._specs:
            now, left = time.monotonic(), len(self._specs) - len(found)
            found[spec.id] = self._deeds_of(spec, now + (by - now) / min(SHARE, left))
        return found

    def _deeds_of(self, spec: ContainerSpec, by: float) -> Deeds:
        group = Cgroup(self._home.cgroup(spec.tenant, spec.id))
        pids = group.procs()
        written, cpu_ns = open_files.written(pids), group.cpu_ns() or 0
        try:
            return Deeds(open_files.of(pids, self._devices, by), written, cpu_ns)
        except TimeoutError:
            return Deeds(None, written, cpu_ns)

    def _all_devices(self) -> set[int]:
        """That open files on the node's disk are said to be on: volumes' on the disk itself, others on the overlay of whose they were first."""
        devices = {self._home.state.stat().st_dev}
        for spec in self._specs:
            if spec.limits.disk_bytes is None:
                with contextlib.suppress(FileNotFoundError):  # it has ended
                    devices.add(os.stat(self._home.bundle(spec.id) / "merged").st_dev)
        return devices


def took(folders: Mapping[str, Sequence[Path]], first: Count, second: Count, kind: Kind, disk: int) -> Took:
    """``folders`` by container; ``disk``: the device of the node's disk, which shared things are on."""
    growth = _growth(first, second, kind)
    owners = _owners(folders, first, second)
    seen = dict.fromkeys(folders, 0)
    for thing, grown in growth.items():
        for id, part in _parts(owners[thing], first, second, kind, disk).items():
            seen[id] += round(grown * part)
    suspects = {
        id: max(0, _wrote(id, first, second) - max(0, seen[id])) if kind == "bytes" else 0
        for id, of_one in folders.items()
        if of_one and not (_looked_at(id, first, second) and growth.keys() >= set(of_one))
    }
    return Took(seen, suspects, frozenset(id for id in folders if _in_flight(id, first, second)))


def _in_flight(id: str, *counts: Count) -> bool:
    """At either: who takes its files out of the messages for a moment shows them only then."""
    return any(files.in_flight for count in counts if (files := count.deeds[id].files) is not None)


def _looked_at(id: str, *counts: Count) -> list[OpenFiles]:
    """Its open files, if they were looked at each time."""
    found = [files for count in counts if (files := count.deeds[id].files) is not None]
    return found if len(found) == len(counts) else []


def _growth(first: Count, second: Count, kind: Kind) -> dict[Thing, int]:
    """Folders that are in both counts, and each file without a name once."""
    growth: dict[Thing, int] = {folder: number - first.folders[folder] for folder, number in second.folders.items()}
    before: dict[Inode, int] = {}
    after: dict[Inode, int] = {}
    for id in first.deeds:
        for files, sizes in zip(_looked_at(id, first, second), (before, after), strict=False):
            sizes.update(files.unlinked)
    for sizes, sign in ((before, -1), (after, 1)):
        for inode, size in sizes.items():
            growth[inode] = growth.get(inode, 0) + sign * (size if kind == "bytes" else 1)
    return growth


def _owners(folders: Mapping[str, Sequence[Path]], first: Count, second: Count) -> Mapping[Thing, Sequence[str]]:
    """Of a file without a name: who can write to it, else who holds it."""
    named, writers, holders = (
        defaultdict[Thing, list[str]](list),
        defaultdict[Thing, list[str]](list),
        defaultdict[Thing, list[str]](list),
    )
    for id, of_one in folders.items():
        for folder in of_one:
            named[folder].append(id)
        looks = _looked_at(id, first, second)
        for inode in set[Inode]().union(*(files.unlinked for files in looks)):
            holders[inode].append(id)
            if any(inode in files.writable for files in looks):
                writers[inode].append(id)
    return named | holders | writers


def _parts(owners: Sequence[str], first: Count, second: Count, kind: Kind, disk: int) -> dict[str, float]:
    """For each: together they are 1; empty when nothing tells whose it is."""
    if len(owners) == 1:
        return {owners[0]: 1.0}
    wrote = {id: _wrote(id, first, second) for id in owners}
    opened = {id: int(any(disk in files.writing for files in _looked_at(id, first, second))) for id in owners}
    ran = {id: max(0, second.deeds[id].cpu_ns - first.deeds[id].cpu_ns) for id in owners}
    for weights in (wrote, opened, ran) if kind == "bytes" else (ran,):
        if whole := sum(weights.values()):
            return {id: weight / whole for id, weight in weights.items()}
    return {}


def _wrote(id: str, first: Count, second: Count) -> int:
    return max(0, second.deeds[id].written - first.deeds[id].written)
