"""Between a person's standard streams and those of a program in a container."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.kernel.ready import readable

if TYPE_CHECKING:
    from runtime.api import ExecSession

BLOCK = 1 << 16


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
    own = sys.stdin.fileno()
    inputs = [own] if stdin else []
    if not stdin:
        session.stdin.close()
    while outputs:
        for descriptor in readable([*outputs, *inputs]):
            content = os.read(descriptor, BLOCK)
            if descriptor == own:
                if not content or not _wrote(session.stdin.fileno(), content):
                    inputs.clear()
                    session.stdin.close()
            elif content:
                _write(outputs[descriptor], content)
            else:
                del outputs[descriptor]


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _wrote(descriptor: int, content: bytes) -> bool:
    """False when the program reads no more."""
    try:
        _write(descriptor, content)
    except BrokenPipeError:
        return False
    return True


def interact(session: ExecSession) -> None:
    """Our terminal in raw mode and its size passed on, until the program ends."""
    own, other = sys.stdin.fileno(), session.stdout.fileno()
    with _raw(own), _resizing(session):
        while session.poll() is None:
            for descriptor in readable([own, other], 0.2):
                try:
                    content = os.read(descriptor, BLOCK)
                except OSError:
                    return  # its end of the terminal is closed
                if not content:
                    return
                _write(other if descriptor == own else sys.stdout.fileno(), content)


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
