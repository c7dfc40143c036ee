"""Between a person's standard streams and those of a program in a container."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from runtime.kernel.ready import either

if TYPE_CHECKING:
    from runtime.api import ExecSession

BLOCK = 1 << 16
LOOK_S = 0.2
MOST_HELD = 1 << 17
"""Bytes: more than a terminal of Linux holds that nobody reads."""
END_OF_TRANSMISSION = b"\x04"
"""What ends an input at a terminal, as a person types it (^D)."""


def terminal_size() -> tuple[int, int]:
    """Columns and rows of the person's own terminal, whatever the environment says; 80 and 24 where there is none."""
    try:
        size = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 80, 24
    return size.columns, size.lines


def pipe(session: ExecSession, *, stdin: bool) -> None:
    """Without a terminal, until both outputs have ended.  Our input goes in when ``stdin``; its end is passed on."""
    outputs = {session.stdout.fileno(): sys.stdout.fileno()}
    if session.stderr is not None:
        outputs[session.stderr.fileno()] = sys.stderr.fileno()
    source = _Input(sys.stdin.fileno(), session.stdin.fileno(), close=session.stdin.close)
    if not stdin:
        source.close()
    while outputs:
        readers, writers = either([*outputs, *source.wants], source.waits)
        source.move(readers, writers)
        for descriptor in outputs.keys() & set(readers):
            if not _shown(descriptor, outputs[descriptor]):
                del outputs[descriptor]


def interact(session: ExecSession) -> None:
    """Our terminal in raw mode and its size passed on, until the program has ended and all that it wrote is shown.

    What its terminal holds then is little; what it left in the background may write for ever.
    """
    own, other = sys.stdin.fileno(), session.stdout.fileno()
    source = _Input(own, other, last=END_OF_TRANSMISSION)
    left = MOST_HELD
    with _raw(own), _resizing(session):
        while left > 0:
            ended = session.poll() is not None
            readers, writers = either([other, *source.wants], source.waits, 0 if ended else LOOK_S)
            if not ended:
                source.move(readers, writers)
            if other in readers:
                shown = _shown(other, sys.stdout.fileno())
                left -= shown if ended else 0
            if (other in readers and not shown) or (ended and other not in readers):
                return


class _Input:
    """Ours on its way to a program, which may not read it: so nothing here waits for the program, whose output is to be shown meanwhile."""

    def __init__(self, own: int, target: int, *, last: bytes = b"", close: Callable[[], None] | None = None) -> None:
        """At our end the target is told ``last`` and then, or when it reads no more, ``close`` is called."""
        self._own = own
        self._target = target
        self._last = last
        self._close = close
        self._held = b""
        self._amid = False
        self._open = True
        os.set_blocking(target, False)

    @property
    def wants(self) -> list[int]:
        return [self._own] if self._open and not self._held else []

    @property
    def waits(self) -> list[int]:
        return [self._target] if self._held else []

    def move(self, readers: Sequence[int], writers: Sequence[int]) -> None:
        if self._own in readers and self.wants:
            self._take(_read(self._own))
        elif self._target in writers and self._held:
            try:
                self._held = self._held[os.write(self._target, self._held) :]
            except BlockingIOError:  # less room than was told
                return
            except OSError:  # it reads no more
                self.close()

    def _take(self, content: bytes) -> None:
        if content:
            self._held, self._amid = content, content[-1:] != b"\n"
        else:  # at a terminal, an end amid a line ends only the line
            self.close()
            self._held = self._last * (2 if self._amid else 1)

    def close(self) -> None:
        self._held, self._open = b"", False
        if self._close is not None:
            self._close()


def _read(descriptor: int) -> bytes:
    """Empty at the end, which a terminal whose other end is closed tells by an error."""
    try:
        return os.read(descriptor, BLOCK)
    except OSError:
        return b""


def _shown(descriptor: int, target: int) -> int:
    """How many bytes were passed on; 0 at the end."""
    content = _read(descriptor)
    _write(target, content)
    return len(content)


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizing(session: ExecSession) -> Iterator[None]:
    def changed(*_: object) -> None:
        session.resize(*terminal_size())

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
