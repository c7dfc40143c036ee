"""conmon's log files: a line is ``<RFC 3339 time> <stdout|stderr> <F|P> <text>``, P when the text had no newline yet.

conmon replaces the file when it has reached its limit.  A hard link, ``<name>.1``, made by :func:`keep_previous`, holds on to the
generation before, so that a reader finds at least a whole generation.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from runtime.api import LogLine

BLOCK = 1 << 16
POLL_S = 0.1
GENERATIONS = 3
"""At most on disk at once: the one written, the one that conmon has just replaced, and the one before."""
TRIES = 100
"""A name can move on between two looks at it; so often in a row only where something replaces files all the time."""

MOST_PIECES = 4096
"""To look back for where a line began that was written in pieces: conmon's are of 8 KiB, so 32 MiB of one that is long."""


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
    """One container's log from the past into the present: in order, no line twice, and none left out without a word.

    conmon waits for no reader and keeps the log within its limit, so one that is slower than the container loses lines.  It holds on
    to the generations that were there when it was opened and to the one that it reads, then goes on with what is kept of those
    since, and :meth:`lost` tells of what is not.  What was lost before it was opened nobody knows any more.

    The log may not exist yet.  Close it after use.
    """

    def __init__(self, log: Path) -> None:
        from runtime.telemetry.replaced import Replaced  # which loads ctypes: the verbs that read no log need not

        self._log = log
        self._rest = b""
        self._cut = False
        self._replaced = Replaced(log)
        self._lost = 0
        self._ahead: deque[BinaryIO] = deque()
        (self._older, self._newest), at = self._generations()
        self._at = at if self._newest else -1
        """How many replacements there were when the last that is held came."""

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
        if self._newest is None and not self._advance():
            return []
        content = self._read(limit)
        if not content and self._over():
            content = self._read(limit)  # what was written before it was replaced
            if not content and self._advance():
                content = self._read(limit)
        *whole, self._rest = (self._rest + content).split(b"\n")
        if self._cut and whole:
            self._cut = False
            return whole[1:]
        return whole

    def lost(self) -> int:
        """About how many bytes came and went unread just before the first line of the last :meth:`fresh`; told once, 0: none.

        Of several generations that follow each other in a gap, some kept and some not, it is told before the first.
        """
        lost, self._lost = self._lost, 0
        return lost

    def _read(self, limit: int) -> bytes:
        return self._newest.read(limit) if self._newest else b""

    def _over(self) -> bool:
        """Whether the name leads to another file by now than to the one that is read."""
        return self._newest is not None and _inode(self._log) not in {None, os.fstat(self._newest.fileno()).st_ino}

    def _generations(self) -> tuple[tuple[tuple[BinaryIO, ...], BinaryIO | None], int]:
        """As :func:`_generations`, and how many replacements there had been by then."""
        for tries_left in reversed(range(TRIES)):
            before, found = self._replaced.count(), _generations(self._log)
            if not tries_left or self._replaced.count() == before:
                break
            _close(*found[0], found[1])
        return found, before

    def _advance(self) -> bool:
        """To the generation that follows, or the next that there still is.  False: there is none."""
        if not self._ahead and not self._look_ahead():
            return False
        _close(self._newest)
        self._newest = self._ahead.popleft()
        return True

    def _look_ahead(self) -> bool:
        (older, newest), at = self._generations()
        if newest is None:
            _close(*older)
            return False
        # files are written one after the other; two of one tick of the kernel's clock are not told apart, and count as lost
        read_to = os.fstat(self._newest.fileno()).st_mtime_ns if self._newest else -1
        kept = [one for one in older if os.fstat(one.fileno()).st_mtime_ns > read_to]
        _close(*(one for one in older if one not in kept))
        lost = max(0, at - self._at - 1 - len(kept))
        full = self._newest or max((*kept, newest), key=_size)
        self._lost += lost * _size(full)
        if lost:
            self._rest = b""
        self._ahead += [*kept, newest]
        self._at = at
        return True

    def behind(self) -> int:
        """Bytes that are held, or in the newest file, and not read."""
        rest = _size(self._newest) - self._newest.tell() if self._newest else 0
        return rest + sum(_size(one) for one in self._ahead)

    def skip_to_end(self) -> int:
        """Bytes that were skipped; the line that they end in is left out whole."""
        skipped = self.behind()
        while self._ahead:
            self._advance()
        if self._newest and skipped:
            self._newest.seek(-1, os.SEEK_END)  # a newline there ends a line that was skipped, and no other
            self._rest, self._cut = b"", True
        return skipped

    def close(self) -> None:
        _close(*self._older, self._newest, *self._ahead)
        self._replaced.close()


def _close(*handles: BinaryIO | None) -> None:
    for handle in handles:
        if handle is not None:
            handle.close()


def _size(handle: BinaryIO) -> int:
    return os.fstat(handle.fileno()).st_size


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
        _close(*opened)
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
    """Which lines: the ``last`` of those from ``since`` to ``until`` (seconds since the epoch, both within) of ``stream``.

    A line that was written in pieces counts once; fewer than none are none.
    """

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
    told = _Told(reader, wanted)
    try:
        yield from _past(told)
        while follow:
            over = ended() or (wanted.until is not None and time.time() > wanted.until)
            fresh = reader.fresh()
            yield from told.of(fresh)
            if not fresh:
                if over:
                    return
                time.sleep(POLL_S)
    finally:
        reader.close()


def _past(told: _Told) -> Iterable[LogLine]:
    """What is there already.  Where all are wanted, no more is read than the last of them take."""
    reader, wanted = told.reader, told.wanted
    if wanted.last is None:
        return told.of(reader.whole())
    last = max(0, wanted.last)
    if not wanted.all:
        return _last_of(told.of(reader.whole()), last)
    pieces = last + 1
    while True:
        raw = reader.last(pieces)
        found = _last_of(told.of(raw), last)
        if len(found) < len(raw) or len(raw) < pieces or pieces > last + MOST_PIECES:
            return found
        pieces *= 2


def _last_of(lines: Iterable[LogLine], last: int) -> Sequence[LogLine]:
    """As a person counts: what is written in pieces, because it is long or comes slowly, is one line."""
    held, begun = deque[LogLine](maxlen=None if last > 0 else 0), 0
    for line in lines:
        begun += not held or not held[-1].partial
        held.append(line)
        while begun > last > 0 and held:
            begun -= not held.popleft().partial
    return held


class _Told:
    """Lines of a reader that are wanted, each with what was lost since the one before."""

    def __init__(self, reader: Reader, wanted: Wanted) -> None:
        self.reader, self.wanted = reader, wanted
        self._lost = 0

    def of(self, raw: Iterable[bytes]) -> Iterator[LogLine]:
        for line in raw:
            self._lost += self.reader.lost()
            parsed = parse(line)
            if parsed is not None and self.wanted.has(parsed):
                yield replace(parsed, lost_before=self._lost) if self._lost else parsed
                self._lost = 0
