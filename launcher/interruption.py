"""The ways to be stopped while setting up: Ctrl-C, SIGTERM, and a terminal that is closed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption(KeyboardInterrupt):
    """What runs is ended and tidied up behind, as after a Ctrl-C; ``exit_code`` is what a shell would show."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


_waiting: list[int] | None = None
"""What came while interruptions are held; None: they are not."""


def _interrupt(number: int, _frame: FrameType | None) -> None:
    if _waiting is None:
        raise Interruption(number)
    _waiting.append(number)


@contextmanager
def held() -> Iterator[None]:
    """An interruption waits for the end of the block: a program is started, or ended, and known to be so."""
    global _waiting  # noqa: PLW0603 -- a signal's handler has no other place
    came: list[int] = []
    _waiting = came
    try:
        yield
    finally:
        _waiting = None
    if came:
        raise Interruption(came[0])


def from_signals() -> None:
    """From now on; the supervisor of the running processes has handlers of its own for its time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
