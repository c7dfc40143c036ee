"""conmon's log files: a line is ``<RFC 3339 time> <stdout|stderr> <F|P> <text>``, P when the text had no newline yet.

conmon replaces the file when it has reached its limit.  A hard link, ``<name>.1``, made by :func:`keep_previous`, holds on to the
generation before, so that a reader finds at least one whole limit's worth.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.api import LogLine

BLOCK = 1 << 16
POLL_S = 0.1
GENERATIONS = 3
"""At most on disk at once: the one written, the one that conmon has just replaced, and the one before."""


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


def keep_previous(log: Path) -> None:
    """Called every few seconds: link the current generation, and shift when conmon has replaced it."""
    link, previous = log.with_name(log.name + ".current"), log.with_name(log.name + ".1")
    try:
        inode = log.stat().st_ino
    except FileNotFoundError:
        return
    if link.exists() and link.stat().st_ino == inode:
        return
    if link.exists():
        os.replace(link, previous)
    try:
        os.link(log, link)
    except FileExistsError:
        return  # another process did it in this moment


def files(log: Path) -> tuple[Path, ...]:
    """Oldest first.  What conmon has replaced since :func:`keep_previous` last ran is reached through its link."""
    link = log.with_name(log.name + ".current")
    replaced = link.exists() and log.exists() and link.stat().st_ino != log.stat().st_ino
    return tuple(
        path for path in (log.with_name(log.name + ".1"), *((link,) if replaced else ()), log) if path.exists()
    )


def tail(paths: tuple[Path, ...], lines: int) -> list[bytes]:
    """The last ``lines`` raw lines over all files, read from the end."""
    found: list[bytes] = []
    for path in reversed(paths):
        found = _tail_of(path, lines - len(found)) + found
        if len(found) >= lines:
            break
    return found


def _tail_of(path: Path, lines: int) -> list[bytes]:
    with path.open("rb") as handle:
        return _last_lines(handle, lines)


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


class Tail:
    """Reads what was appended since the last call, across rotations.  Start with ``at_end`` to skip what is there."""

    def __init__(self, path: Path, *, at_end: bool = False) -> None:
        self._path = path
        self._rest = b""
        self._handle = path.open("rb") if path.exists() else None
        if self._handle and at_end:
            self._handle.seek(0, os.SEEK_END)

    def read(self, limit: int = 1 << 20) -> list[bytes]:
        """Whole raw lines, at most about ``limit`` bytes of them; empty when there is nothing new."""
        if self._handle is None:
            if not self._path.exists():
                return []
            self._handle = self._path.open("rb")
        content = self._handle.read(limit)
        if not content and self._replaced():
            self._handle.close()
            self._handle = self._path.open("rb")
            content = self._handle.read(limit)
        if not content:
            return []
        *whole, self._rest = (self._rest + content).split(b"\n")
        return whole

    def last(self, lines: int) -> list[bytes]:
        """The last whole lines of the file; reading goes on after them."""
        return _last_lines(self._handle, lines) if self._handle else []

    def _replaced(self) -> bool:
        try:
            return self._handle is not None and os.fstat(self._handle.fileno()).st_ino != self._path.stat().st_ino
        except FileNotFoundError:
            return False

    def behind(self) -> int:
        """Bytes that are there and not read."""
        return os.fstat(self._handle.fileno()).st_size - self._handle.tell() if self._handle else 0

    def skip_to_end(self) -> int:
        """Bytes that were skipped; the line that they end in is cut."""
        skipped = self.behind()
        if self._handle:
            self._handle.seek(0, os.SEEK_END)
        self._rest = b""
        return skipped

    def close(self) -> None:
        if self._handle:
            self._handle.close()


def read(
    log: Path, *, last: int | None, since: str | None, follow: bool, ended: Callable[[], bool]
) -> Iterator[LogLine]:
    """Oldest first.  With ``follow`` it goes on until ``ended()`` and nothing new is left."""
    older = files(log)[:-1]
    follower = Tail(log)  # one handle reads what is there and follows, so that no line comes twice or never
    try:
        yield from _parsed(_whole(older, follower) if last is None else _latest(older, follower, last), since)
        while follow:
            over = ended()
            fresh = follower.read()
            yield from _parsed(fresh, since)
            if not fresh:
                if over:
                    return
                time.sleep(POLL_S)
    finally:
        follower.close()


def _whole(older: tuple[Path, ...], follower: Tail) -> Iterator[bytes]:
    for path in older:
        with path.open("rb") as handle:
            yield from handle
    while fresh := follower.read():
        yield from fresh


def _latest(older: tuple[Path, ...], follower: Tail, lines: int) -> list[bytes]:
    newest = follower.last(lines)
    return tail(older, lines - len(newest)) + newest


def _parsed(raw: Iterable[bytes], since: str | None) -> Iterator[LogLine]:
    for line in raw:
        parsed = parse(line)
        if parsed is not None and (since is None or parsed.at >= since):
            yield parsed
