"""The node's events in files: a JSON object a line, in segments named after the number of their first event.

Any number of processes tell and read at once.  A line is appended by one write under a lock; a part of a line, as a power cut or a full
disk leaves it, is cut off by the next writer and skipped by readers.  Nothing waits for the disk: what a power cut takes is told
again from the containers' own statuses (:mod:`runtime.engines.native.retelling`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from runtime import logs
from runtime.api import Event, EventKind
from runtime.encoding import check

SEGMENT_BYTES = 1 << 20
SEGMENTS = 8
LOCK_DEADLINE_S = 5.0
LOCK_POLL_S = 0.002
POLL_S = 0.1
LONGEST_VALUE = 500
TAIL = 1 << 16
MOVES = frozenset({EventKind.CONNECTED, EventKind.DISCONNECTED})
LIFE = frozenset({EventKind.CREATED, EventKind.STARTED, EventKind.DIED, EventKind.REMOVED})

logger = logs.of(__name__)


class Journal:
    """See :class:`runtime.api.Events`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # told ------------------------------------------------------------------------------------------------

    def tell(
        self,
        kind: EventKind,
        subject: str,
        *,
        tenant: str = "",
        name: str = "",
        at: float | None = None,
        data: Mapping[str, str | float] | None = None,
    ) -> None:
        """Never fails what it tells of: an event that cannot be written is logged instead."""
        short = {key: value[:LONGEST_VALUE] if isinstance(value, str) else value for key, value in (data or {}).items()}
        event = Event(0, time.time() if at is None else at, kind, subject, tenant, name, short)
        try:
            self._append(event)
        except OSError as error:
            logger.warning("the event %s of %s could not be written: %s", kind, subject, error)

    def _append(self, event: Event) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            segments = self._segments()
            path = segments[-1] if segments else self._segment(1)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size, last = _whole(descriptor)
                number = (last or int(path.stem) - 1) + 1
                if size >= SEGMENT_BYTES:
                    os.close(descriptor)
                    descriptor = os.open(self._segment(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    size = 0
                _write(descriptor, size, json.dumps(asdict(event) | {"number": number}).encode() + b"\n")
            finally:
                os.close(descriptor)
            for old in segments[: len(segments) - SEGMENTS]:
                old.unlink(missing_ok=True)

    def sync(self) -> None:
        """Onto the disk; the newest segment is all that can be unwritten for long."""
        for path in self._segments()[-1:]:
            with contextlib.suppress(FileNotFoundError), path.open("rb") as handle:
                os.fdatasync(handle.fileno())

    # read ------------------------------------------------------------------------------------------------

    def told(self, subject: str, kind: EventKind, epoch: int | None = None) -> bool:
        """Whether it is here; of a start's events those of that start."""
        return any(event.kind is kind and epoch in {None, event.data.get("epoch")} for event in self._about(subject))

    def last_move(self, subject: str, network: str) -> EventKind | None:
        """CONNECTED or DISCONNECTED, whichever of that network was told last; None: neither is here."""
        last = None
        for event in self._about(subject):
            if event.kind in MOVES and event.data.get("network") == network:
                last = event.kind
        return last

    def last_of_life(self, subject: str) -> Event | None:
        """Of a container: the newest that is here of its creation, starts, ends and removal."""
        return next((event for event in reversed(tuple(self._about(subject))) if event.kind in LIFE), None)

    def _about(self, subject: str) -> Iterator[Event]:
        """Oldest first.  Only lines that name it are parsed: there may be 40,000."""
        named = f'"{subject}"'.encode()
        for line in (line for path in self._segments() for line in _lines(path) if named in line):
            event = _parse(line)
            if event is not None and event.subject == subject:
                yield event

    def recent(self) -> Iterator[Event]:
        """About the last 5,000 and more, oldest first."""
        first = [int(path.stem) for path in self._segments()][-2:-1]
        return self._after(first[0] - 1 if first else 0)

    def last(self) -> int:
        for path in reversed(self._segments()):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as handle:
                return _last_number(handle.fileno(), os.fstat(handle.fileno()).st_size) or int(path.stem) - 1
        return 0

    def read(
        self,
        *,
        after: int = 0,
        since: float | None = None,
        until: float | None = None,
        subject: str | None = None,
        tenant: str | None = None,
        follow: bool = False,
    ) -> Iterator[Event]:
        while True:
            over = not follow or (until is not None and time.time() > until)
            mark = self._mark()
            for event in self._after(after):
                after = event.number
                if (
                    (since is None or event.at >= since)
                    and (until is None or event.at <= until)
                    and subject in {None, event.subject}
                    and tenant in {None, event.tenant}
                ):
                    yield event
            if over:
                return
            while self._mark() == mark and (until is None or time.time() <= until):
                time.sleep(POLL_S)

    def _mark(self) -> tuple[str, int] | None:
        """Another one when something was told."""
        segments = self._segments()
        return (segments[-1].name, _size(segments[-1])) if segments else None

    def _after(self, number: int) -> Iterator[Event]:
        segments = self._segments()
        firsts = [int(path.stem) for path in segments]
        for index, path in enumerate(segments):
            if index + 1 < len(segments) and firsts[index + 1] <= number + 1:
                continue
            for line in _lines(path):
                event = _parse(line)
                if event is not None and event.number > number:
                    yield event

    # files -----------------------------------------------------------------------------------------------

    def _segment(self, first: int) -> Path:
        return self._folder / f"{first:020d}.jsonl"

    def _segments(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.jsonl") if path.stem.isascii() and path.stem.isdigit())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Its file lies beside the events, so a full ``/run`` keeps nothing from being told.  Raises OSError after the deadline."""
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_DEADLINE_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)


def _write(descriptor: int, at: int, line: bytes) -> None:
    """All of it or nothing."""
    try:
        written = os.pwrite(descriptor, line, at)
        if written != len(line):
            os.pwrite(descriptor, line[written:], at + written)
    except OSError:
        os.ftruncate(descriptor, at)
        raise


def _whole(descriptor: int) -> tuple[int, int | None]:
    """The size without a part of a line at the end, and the last whole line's number; None when there is no line."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, TAIL, max(0, size - TAIL))
    if tail and not tail.endswith(b"\n"):
        size -= len(tail) - (tail.rfind(b"\n") + 1)
        os.ftruncate(descriptor, size)
    return size, _last_number(descriptor, size)


def _last_number(descriptor: int, size: int) -> int | None:
    start = max(0, size - TAIL)
    for line in reversed(os.pread(descriptor, size - start, start).split(b"\n")):
        with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return int(json.loads(line)["number"])  # also of a kind that only a later version has
    return None


def _lines(path: Path) -> Iterator[bytes]:
    """Whole ones: what follows the part of one that is being written comes with the next look."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as handle:
        for line in handle:
            if not line.endswith(b"\n"):
                return
            yield line


def _parse(line: bytes) -> Event | None:
    """None for what nobody wrote whole or as we do, and for a kind that a later version has."""
    try:
        fields = json.loads(line)
        event = Event(**(fields | {"kind": EventKind(fields["kind"])}))
        check(event)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return event


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
