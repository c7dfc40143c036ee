"""Leases: what somebody is at work with and no name keeps yet, or no longer, as files that outlive their maker.

A lease names digests (of blobs, and diff_ids of layers) and its owner, a process by pid, start time and boot.  It holds while its owner lives,
and :data:`KEPT_S` longer when the owner died or left what it had to the next try.  Who collects garbage holds the content lock alone and
reads the leases then; who extends one holds it shared.  So what a lease names is either kept, or was gone before.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.failpoint import failpoint
from runtime.home import NONSENSE, Home, atomic_write, sweep_temporaries
from runtime.kernel.process import boot_id, start_time

CONTENT_LOCK = "image-content"
NOBODY = 0
KEPT_S = 3600.0
"""As long as a pull may take: whoever tries again within it goes on from what is here."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as it was read."""

    purpose: str
    digests: frozenset[str]
    alive: bool
    """Its owner is at work."""
    left_s: float
    """Without its owner it holds this much longer; 0 or less: no more."""


class Lease:
    def __init__(self, home: Home, purpose: str) -> None:
        self._home = home
        self._purpose = purpose
        self._file = home.images / "leases" / f"{os.getpid()}.{os.urandom(6).hex()}.json"
        self._digests: frozenset[str] = frozenset()
        self._left = False
        self._lock = threading.Lock()

    def hold(self, digests: Iterable[str]) -> None:
        """From here on none of them goes that is here.  Raises DeadlineExceeded."""
        with self._lock:
            wanted = self._digests | set(digests)
            if wanted != self._digests:
                with self._home.lock(CONTENT_LOCK, timeout_s=60, shared=True):
                    self._write(wanted, os.getpid())
                failpoint("lease.written")
                self._digests = wanted

    def _write(self, digests: frozenset[str], pid: int) -> None:
        body = {
            "purpose": self._purpose,
            "pid": pid,
            "started": start_time(pid),
            "boot": boot_id(),
            "digests": sorted(digests),
        }
        atomic_write(self._file, json.dumps(body).encode())

    def leave(self) -> None:
        """To the next try: this owner is done, and what it held stays for a while."""
        if self._digests:
            self._write(self._digests, NOBODY)
            self._left = True

    def release(self) -> None:
        if not self._left:
            self._file.unlink(missing_ok=True)


class Leases:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.images / "leases"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def lease(self, purpose: str) -> Iterator[Lease]:
        """Released at the end, unless it was left to the next try."""
        made = Lease(self._home, purpose)
        try:
            yield made
        finally:
            made.release()

    def held(self) -> tuple[Held, ...]:
        found = []
        for file in sorted(self._folder.glob("*.json")):
            one = _read(file)
            if one is not None:
                found.append(one)
        return tuple(found)

    def digests(self, *, abandoned: bool = True) -> set[str]:
        """Of all leases that hold; those of the dead only if ``abandoned``."""
        return {digest for one in self.held() if one.alive or (abandoned and one.left_s > 0) for digest in one.digests}

    def sweep(self, *, abandoned: bool = False) -> tuple[str, ...]:
        """Those that hold no more, the damaged and the half written among them; with ``abandoned`` all whose owner is gone."""
        sweep_temporaries(self._folder)
        return self._end(lambda one: one is None or one.left_s <= 0 or abandoned)

    def supersede(self, digests: Collection[str]) -> None:
        """All of these have a name now: what earlier tries at them left holds nothing any more."""
        self._end(lambda one: one is not None and one.digests.issubset(digests))

    def _end(self, chosen: Callable[[Held | None], bool]) -> tuple[str, ...]:
        ended = []
        for file in sorted(self._folder.glob("*.json")):
            one = _read(file)
            if not (one and one.alive) and chosen(one):
                file.unlink(missing_ok=True)
                ended.append(f"lease:{file.stem}")
        return tuple(ended)


def _read(file: Path) -> Held | None:
    """None: it is gone or damaged, and holds nothing."""
    try:
        body = json.loads(file.read_bytes())
        age_s = time.time() - file.stat().st_mtime
        pid, started = int(body["pid"]), body["started"]
        alive = started is not None and body["boot"] == boot_id() and start_time(pid) == started
        # a clock that was set back makes nothing eternal
        left_s = KEPT_S - age_s if age_s >= 0 else 0.0
        return Held(str(body["purpose"]), frozenset(map(str, body["digests"])), alive, left_s)
    except (FileNotFoundError, *NONSENSE):
        return None
