"""The last 15 minutes of samples of each container, in memory, about 60 KB each."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from runtime.api import Counters

SECONDS = 900
FIELDS = ("cpu", "memory", "working_set", "rx", "tx", "read", "write", "pids")
ABSENT = -1.0
"""Stands for None in the arrays: no figure here is ever negative."""

Sample = list[float | None]


def rates(before: Counters | None, now: Counters) -> Sample:
    """One row in the order of FIELDS: vCPU, bytes, bytes, then bytes per second, and a number of processes.

    Without a reading before, or when a counter went back (another epoch), what is a rate is None.
    """
    elapsed_ns = now.boottime_ns - before.boottime_ns if before else 0
    if before is None or elapsed_ns <= 0:
        return [None, now.memory_bytes, now.working_set_bytes, None, None, None, None, now.pids]

    return [
        _rate(before.cpu_ns, now.cpu_ns, 1 / elapsed_ns),
        now.memory_bytes,
        now.working_set_bytes,
        _rate(before.net_rx_bytes, now.net_rx_bytes, 1e9 / elapsed_ns),
        _rate(before.net_tx_bytes, now.net_tx_bytes, 1e9 / elapsed_ns),
        _rate(before.block_read_bytes, now.block_read_bytes, 1e9 / elapsed_ns),
        _rate(before.block_write_bytes, now.block_write_bytes, 1e9 / elapsed_ns),
        now.pids,
    ]


def _rate(old: int | None, new: int | None, scale: float) -> float | None:
    """None where one of them is, or for a counter that went back."""
    if old is None or new is None or new < old:
        return None
    return round((new - old) * scale, 4) if new != old else 0.0


class Ring:
    """At most SECONDS samples; older ones are overwritten.  One flat array, a row of time and FIELDS after the other."""

    __slots__ = ("_count", "_table")
    WIDTH = 1 + len(FIELDS)
    ROW = struct.Struct(f"={WIDTH}d")

    def __init__(self) -> None:
        self._table = array("d", bytes(8 * self.WIDTH * SECONDS))
        self._count = 0

    def add(self, at: float, sample: Sample) -> None:
        row = [ABSENT if value is None else value for value in sample] if None in sample else sample
        self.ROW.pack_into(self._table, self._count % SECONDS * self.ROW.size, at, *row)
        self._count += 1

    def since(self, at: float) -> dict[str, list[float | None]]:
        """Columns by name, oldest first, with ``t`` in Unix milliseconds."""
        slots = [slot % SECONDS for slot in range(max(0, self._count - SECONDS), self._count)]
        times, *columns = (self._table[column :: self.WIDTH] for column in range(self.WIDTH))
        kept = [slot for slot in slots if times[slot] >= at]
        table: dict[str, list[float | None]] = {"t": [round(times[slot] * 1000) for slot in kept]}
        for name, column in zip(FIELDS, columns, strict=True):
            table[name] = [None if column[slot] == ABSENT else column[slot] for slot in kept]
        return table


@dataclass(slots=True)
class Track:
    tenant: str
    epoch: int
    ring: Ring
    last: Counters | None = None


class History:
    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}

    def follow(self, container: str, tenant: str, epoch: int) -> None:
        known = self.tracks.get(container)
        if known is None:
            self.tracks[container] = Track(tenant, epoch, Ring())
        elif known.epoch != epoch:
            known.epoch, known.last = epoch, None

    def keep_only(self, containers: set[str]) -> None:
        for gone in set(self.tracks) - containers:
            del self.tracks[gone]

    def add(self, container: str, counters: Counters) -> Sample:
        track = self.tracks[container]
        sample = rates(track.last, counters)
        track.last = counters
        track.ring.add(counters.at, sample)
        return sample
