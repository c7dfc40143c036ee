"""What a person reads: progress of the set-up, and the children's lines with a prefix."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

PREFIX_WIDTH = 7
WIDEST = 120
COLOURS = {"slipway": "1", "redis": "31", "web": "36", "worker": "33", "beat": "35", "agent": "32"}
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Output:
    """Writes whole lines, from any thread.

    A reader that went away (``| head``), a closed terminal or a full disk silences it, nothing more.
    """

    def __init__(self, stream: TextIO | None = None, *, colour: bool | None = None) -> None:
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty()
        self.colour = wants_colour(self.stream, os.environ) if colour is None else colour
        self._lock = threading.Lock()
        self._gone = False

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def line(self, text: str = "") -> None:
        self._write(text + "\n")

    def child(self, name: str, text: str) -> None:
        """One line of a child; control characters and escape sequences do not reach the terminal."""
        prefix = self.paint(f"{name:<{PREFIX_WIDTH}}|", COLOURS.get(name, "34"))
        self._write(f"{prefix} {_CONTROL.sub('', text)}\n")

    def say(self, text: str) -> None:
        """A line of the launcher among the children's."""
        self.child("slipway", text)

    def framed(self, lines: list[str]) -> None:
        width = max(len(line) for line in lines)
        edge = "+" + "-" * (width + 4) + "+"
        body = [f"|  {line:<{width}}  |" for line in lines]
        self._write("\n".join(["", edge, *(self.paint(row, "1") for row in body), edge, "", ""]))

    @contextmanager
    def step(self, title: str, why: str) -> Iterator[Progress]:
        """Shows ``title`` and why it is done, then how long it took.  A failure leaves a line that says so."""
        began = time.monotonic()
        progress = Progress(self, title)
        self.line(f"  {self.paint('·', '2')} {title}: {why}")
        try:
            yield progress
        except BaseException as error:
            progress.clear()
            how = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self.line(f"  {self.paint('✗', '31')} {title}: {how} after {time.monotonic() - began:.1f} s")
            raise
        progress.clear()
        self.line(f"  {self.paint('✓', '32')} {title} ({time.monotonic() - began:.1f} s)")

    def _write(self, text: str) -> None:
        with self._lock:
            if self._gone:
                return
            try:
                self.stream.write(text)
                self.stream.flush()
            except UnicodeEncodeError:
                self.stream.write(text.encode("ascii", "replace").decode("ascii"))
                self.stream.flush()
            except (OSError, ValueError):
                self._gone = True


class Progress:
    """Of one step: on a terminal the last line of output, in place; elsewhere a sign of life every 20 seconds."""

    SIGN_OF_LIFE_S = 20.0

    def __init__(self, output: Output, title: str) -> None:
        self._output = output
        self._title = title
        self._began = self._said = time.monotonic()
        self._shown = False

    def update(self, text: str) -> None:
        now = time.monotonic()
        text = _CONTROL.sub("", text).strip()
        if not text:
            return
        if self._output.terminal:
            width = shutil.get_terminal_size().columns - 12
            self._output._write(f"\r\x1b[K    {now - self._began:4.0f} s  {text[:width]}")  # noqa: SLF001 -- one module
            self._shown = True
        elif now - self._said > self.SIGN_OF_LIFE_S:
            self._said = now
            self._output.line(f"    {self._title}: {now - self._began:.0f} s, {text[:WIDEST]}")

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        self.clear()
        self._output.line(f"    {text}")

    def clear(self) -> None:
        if self._shown:
            self._output._write("\r\x1b[K")  # noqa: SLF001 -- one module
            self._shown = False
