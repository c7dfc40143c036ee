"""Attaching to a container's first process: its output as it comes, and its input."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

INPUT_DEADLINE_S = 10.0


class Chunk(NamedTuple):
    stream: Literal["stdout", "stderr"]
    """``stdout`` for all that a terminal shows."""
    content: bytes


class AttachSession(Protocol):
    """One of any number at once.  A reader that is too slow loses the oldest output, never holds the container up."""

    dropped: int
    """Bytes of output that were lost so."""

    def read(self, timeout_s: float) -> Chunk | None:
        """What came next; None when nothing did within the time.  Raises EOFError once the container has ended and all is read."""

    def write(self, content: bytes) -> None:
        """To its input, for every process that reads it.

        Raises Conflict when it was created without (``stdin`` or ``terminal``) or has ended, DeadlineExceeded when it reads nothing for ten seconds.
        """

    def close_input(self) -> None:
        """The end of its input, where the spec has ``stdin_once``; else only of ours."""

    def resize(self, columns: int, rows: int) -> None:
        """Of its terminal; nothing without one."""

    def close(self) -> None:
        """Detach; the container goes on."""


class Attachments(Protocol):
    def open(self, id: str) -> AttachSession:
        """From now on: what was said before is in its log.  Raises NotFound, Conflict (not running, or its supervisor is gone).

        Whoever opens it when the start tells its step ``start`` misses nothing; what they read before the start has returned is nobody's promise.
        """
