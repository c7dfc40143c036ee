"""Observations on the node's disk until the database has them.  Pure files; it knows no database.

Segments ``<number>.spool`` are appended to and never changed.  A frame is ``SWRD``, the payload's length (4 bytes, big-endian),
its sha256 and the payload, zlib'ed JSON: a list of observations of one instant.  ``cursor`` says up to where the database has
them; a crash before it is moved gives frames again, and taking them twice changes nothing.  What a crash or the disk cut
short fails its checksum and is stepped over: the next reading of the same counters covers it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.metering.failpoints import failpoint
from runtime.home import atomic_write

log = logging.getLogger(__name__)
MAGIC = b"SWRD"
HEAD = struct.Struct(">4sI32s")
SEGMENT_BYTES = 4 << 20
MOST_BYTES = 64 << 20
"""Of one payload; a longer one is damage."""
AT_ONCE = 20_000
"""Observations that are taken in together."""


@dataclass(frozen=True, slots=True)
class Frame:
    end: int
    """Offset behind it."""
    observations: list[dict[str, Any]]


class Spool:
    """Any number of processes may append and drain; locks among them are files, which a death frees."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[Path, int] | None = None
        """The segment that this process appended to last, and its size then: whole, if nobody else wrote since."""

    def append(self, observations: Sequence[dict[str, Any]]) -> None:
        """Durable when it returns.  Raises OSError: nothing of it counts."""
        if not observations:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        payload = zlib.compress(json.dumps(observations, separators=(",", ":")).encode())
        frame = HEAD.pack(MAGIC, len(payload), hashlib.sha256(payload).digest()) + payload
        with self._locked("append.lock"):
            path = self._writable()
            fresh = not path.exists()
            with path.open("ab") as handle:
                handle.write(frame)
                handle.flush()
                failpoint("spool.written")
                os.fsync(handle.fileno())
                self._known = (path, handle.tell())
            if fresh:
                _sync_folder(self._folder)
        failpoint("spool.synced")

    def drain(self, take: Callable[[list[dict[str, Any]]], None]) -> int:
        """Gives what is pending to ``take``, in order, and forgets what it returned from; returns how many that were.

        What ``take`` raises passes through; everything that it did not return from is still there.
        """
        if not self._folder.is_dir():
            return 0
        taken = 0
        with self._locked("drain.lock"):
            for segment in self._segments():
                taken += self._drain(segment, take)
        return taken

    def pending_bytes(self) -> int:
        """How much waits for the database."""
        number, offset = self._cursor()
        sizes: dict[int, int] = {}
        for segment in self._segments():
            with contextlib.suppress(FileNotFoundError):  # somebody has just taken it
                if segment >= number:
                    sizes[segment] = self._path(segment).stat().st_size
        return sum(sizes.values()) - (offset if number in sizes else 0)

    def _drain(self, segment: int, take: Callable[[list[dict[str, Any]]], None]) -> int:
        last = segment == self._segments()[-1]
        number, offset = self._cursor()
        taken = 0
        if segment >= number:
            batch: list[dict[str, Any]] = []
            end = offset if segment == number else 0
            for frame in self._frames(segment, end, last=last):
                batch += frame.observations
                end = frame.end
                if len(batch) >= AT_ONCE:
                    taken += self._hand_over(batch, take, segment, end)
                    batch = []
            if batch:
                taken += self._hand_over(batch, take, segment, end)
        if not last:
            self._path(segment).unlink(missing_ok=True)
        return taken

    def _hand_over(
        self, batch: list[dict[str, Any]], take: Callable[[list[dict[str, Any]]], None], segment: int, end: int
    ) -> int:
        take(batch)
        failpoint("drain.taken")
        atomic_write(self._folder / "cursor", json.dumps([segment, end]).encode())
        failpoint("drain.moved")
        return len(batch)

    def _frames(self, segment: int, offset: int, *, last: bool) -> Iterator[Frame]:
        with self._path(segment).open("rb") as handle:
            handle.seek(offset)
            data = handle.read()
        at = 0
        while at < len(data):
            end = _end(data, at)
            if end is not None:
                yield Frame(offset + end, json.loads(zlib.decompress(data[at + HEAD.size : end])))
                at = end
                continue
            found = _next(data, at)
            if found is None and last:
                return  # being written, or cut short: the next append begins a new segment
            self._damaged(segment, offset + at)
            if found is None:
                return
            at = found

    def _damaged(self, segment: int, offset: int) -> None:
        kept = self._folder / "damaged" / self._path(segment).name
        log.error("the spool is damaged in %s at byte %d; the readings after it cover what was there", kept, offset)
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True, mode=0o700)
            shutil.copy2(self._path(segment), kept)

    def _writable(self) -> Path:
        """The last segment where it is whole and not full, else a new one."""
        number, _ = self._cursor()
        last = max([number, *self._segments()])
        path = self._path(last)
        if not path.exists():
            return path
        size = path.stat().st_size
        whole = self._known == (path, size) or _whole(path.read_bytes())
        return path if whole and size < SEGMENT_BYTES else self._path(last + 1)

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.spool") if path.stem.isdecimal())

    def _cursor(self) -> tuple[int, int]:
        """Segment and offset.  Of one that is damaged nobody knows: what is here is given again, as after a crash."""
        try:
            found = json.loads((self._folder / "cursor").read_bytes())
        except FileNotFoundError:
            return 1, 0
        except (ValueError, RecursionError):
            found = None
        match found:
            case [int(segment), int(offset)] if segment >= 1 and offset >= 0:
                return segment, offset
        log.error("the cursor of the spool in %s is damaged: what is there is taken in again", self._folder)
        return min(self._segments(), default=1), 0

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:012d}.spool"

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _end(data: bytes, offset: int) -> int | None:
    """Behind the frame that begins at ``offset``; None where no whole one does."""
    if len(data) - offset < HEAD.size:
        return None
    magic, length, digest = HEAD.unpack_from(data, offset)
    start, end = offset + HEAD.size, offset + HEAD.size + length
    if magic != MAGIC or length > MOST_BYTES or end > len(data):
        return None
    return end if hashlib.sha256(data[start:end]).digest() == digest else None


def _next(data: bytes, offset: int) -> int | None:
    """Where the next whole frame begins behind ``offset``."""
    while (offset := data.find(MAGIC, offset + 1)) >= 0:
        if _end(data, offset) is not None:
            return offset
    return None


def _whole(data: bytes) -> bool:
    """Whether its last frame ends where the file does."""
    offset = 0
    while offset < len(data):
        following = _end(data, offset) or _next(data, offset)
        if following is None:
            return False
        offset = following
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
