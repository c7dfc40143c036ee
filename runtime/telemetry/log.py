"""conmon's log files: a line is ``<RFC 3339 time> <stdout|stderr> <F|P> <text>``, P when the text had no newline yet.

conmon replaces the file when it has reached its limit.  A hard link, ``<name>.1``, made by :func:`keep_previous`, holds on to the
generation before, so that a reader finds at least a whole generation.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from runtime.api import LogLine

BLOCK = 1 << 16
POLL_S = 0.1
GENERATIONS = 3
"""At most on disk at once: the one written, the one that conmon has just replaced, and the one before."""
TRIES = 100
"""A name can move on between two looks at it; so often in a row only where something replaces files all the time."""


def generation_bytes(limit: int) -> int:
    """How far one file may grow for all of them to stay within ``limit``."""
    return limit // GENERATIONS


def parse(raw: bytes) -> LogLine | None:
    """None for what conmon did not write.  Bytes that are not UTF-8 are shown as replacement characters."""
    parts = raw.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3 or parts[1] not in {b"stdout", b"stderr"} or parts[2][:1] not in {b"F", b"P"}:
        return None
    text = parts[3].decode(errors="replace") if len(parts) == 4 else ""
    return LogLine(
        at=parts[0].decode("ascii", errors="replace"),
        stream="stdout" if parts[1] == b"stdout" else "stderr",
        text=text.removesuffix("\r"),
        partial=parts[2][:1] == b"P",
    )


def keep_previous(log: Path | str) -> None:
    """Called every few seconds: link the current generation, and shift when conmon has replaced it."""
    link, previous = f"{log}.current", f"{log}.1"
    now, kept = _inode(log), _inode(link)
    if now in {None, kept}:
        return
    if kept is not None:
        os.replace(link, previous)
    for _ in range(TRIES):
        try:
            os.link(log, link)
        except FileExistsError:
            return  # another process did it in this moment
        except FileNotFoundError:  # replaced in this moment, and the new file is there; or all of it was removed
            continue
        return


class Reader:
    """One container's log from the past into the present: no line comes twice or never, whatever is replaced meanwhile.

    It holds on to the generations that were there when it was opened.  The log may not exist yet.  Close it after use.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._rest = b""
        self._cut = False
        self._older, self._newest = _generations(log)

    def last(self, lines: int) -> list[bytes]:
        """The last whole raw lines of what is there, read from the end; :meth:`fresh` goes on after them."""
        found: list[bytes] = []
        for handle in (self._newest, *reversed(self._older)):
            if handle is not None and (handle is self._newest or len(found) < lines):
                found = _last_lines(handle, lines - len(found)) + found
        return found

    def whole(self) -> Iterator[bytes]:
        """All raw lines of what is there, oldest first; :meth:`fresh` goes on after them."""
        for handle in self._older:
            yield from (line.rstrip(b"\n") for line in handle)
        while lines := self.fresh():
            yield from lines

    def fresh(self, limit: int = 1 << 20) -> list[bytes]:
        """Whole raw lines since the last call, at most about ``limit`` bytes of them; empty when there is nothing new."""
        self._newest = self._newest or _opened(self._log)
        if self._newest is None:
            return []
        content = self._newest.read(limit)
        if not content and self._replaced(self._newest):
            content = self._newest.read(limit)  # what was written before it was replaced
            if not content and (newest := _opened(self._log)):
                self._newest.close()
                self._newest = newest
                content = newest.read(limit)
        *whole, self._rest = (self._rest + content).split(b"\n")
        if self._cut and whole:
            self._cut = False
            return whole[1:]
        return whole

    def _replaced(self, newest: BinaryIO) -> bool:
        return _inode(self._log) not in {None, os.fstat(newest.fileno()).st_ino}

    def behind(self) -> int:
        """Bytes of the newest file that are there and not read."""
        return os.fstat(self._newest.fileno()).st_size - self._newest.tell() if self._newest else 0

    def skip_to_end(self) -> int:
        """Bytes that were skipped; the line that they end in is left out whole."""
        skipped = self.behind()
        if self._newest and skipped:
            self._newest.seek(-1, os.SEEK_END)  # a newline there ends a line that was skipped, and no other
            self._rest, self._cut = b"", True
        return skipped

    def close(self) -> None:
        for handle in (*self._older, self._newest):
            if handle is not None:
                handle.close()


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _inode(path: Path | str) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


def _generations(log: Path) -> tuple[tuple[BinaryIO, ...], BinaryIO | None]:
    """Those before the newest, oldest first, and the newest; opened anew when the names moved on meanwhile."""
    names = (log.with_name(log.name + ".1"), log.with_name(log.name + ".current"), log)
    for tries_left in reversed(range(TRIES)):
        opened = [_opened(name) for name in names]
        inodes = [handle and os.fstat(handle.fileno()).st_ino for handle in opened]
        if not tries_left or inodes == [_inode(name) for name in names]:
            break
        for handle in filter(None, opened):
            handle.close()
    previous, current, newest = opened
    if current and inodes[1] == inodes[2]:  # the link names the newest file until conmon replaces that
        current.close()
        current = None
    return tuple(filter(None, (previous, current))), newest


def _last_lines(handle: BinaryIO, lines: int) -> list[bytes]:
    """Of what is there now, without their newlines; leaves the handle after the last newline."""
    content, at = b"", handle.seek(0, os.SEEK_END)
    end = at
    while at > 0 and content.count(b"\n") <= lines:
        step = min(BLOCK, at)
        at -= step
        handle.seek(at)
        content = handle.read(step) + content
    *whole, rest = content.split(b"\n")
    handle.seek(end - len(rest))
    return whole[len(whole) - lines :] if 0 < lines < len(whole) else whole[: max(0, lines)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines: the ``last`` of those from ``since`` to ``until`` (seconds since the epoch, both within) of ``stream``."""

    last: int | None = None
    since: float | None = None
    until: float | None = None
    stream: Literal["stdout", "stderr"] | None = None

    @property
    def all(self) -> bool:
        return (self.since, self.until, self.stream) == (None, None, None)

    def has(self, line: LogLine) -> bool:
        if self.stream not in {None, line.stream}:
            return False
        at = moment(line.at) if self.since is not None or self.until is not None else 0.0
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


def moment(at: str) -> float:
    """Seconds since the epoch, rounded down to microseconds; 0 for what is no time."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(at).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def read(log: Path, *, wanted: Wanted, follow: bool, ended: Callable[[], bool]) -> Iterator[LogLine]:
    """Oldest first.  With ``follow`` it goes on until ``ended()`` and nothing new is left, or the wanted time is over."""
    reader = Reader(log)
    try:
        yield from _past(reader, wanted)
        while follow:
            over = ended() or (wanted.until is not None and time.time() > wanted.until)
            fresh = reader.fresh()
            yield from _parsed(fresh, wanted)
            if not fresh:
                if over:
                    return
                time.sleep(POLL_S)
    finally:
        reader.close()


def _past(reader: Reader, wanted: Wanted) -> Iterable[LogLine]:
    """What is there already.  Whole lines are counted from the end without a look at them, where all are wanted."""
    if wanted.last is None:
        return _parsed(reader.whole(), wanted)
    if wanted.all:
        return _parsed(reader.last(wanted.last), wanted)
    return deque(_parsed(reader.whole(), wanted), maxlen=max(0, wanted.last))


def _parsed(raw: Iterable[bytes], wanted: Wanted) -> Iterator[LogLine]:
    for line in raw:
        parsed = parse(line)
        if parsed is not None and wanted.has(parsed):
            yield parsed
