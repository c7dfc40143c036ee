"""A container's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LogLine:
    at: str
    """RFC 3339 with nanoseconds, as the supervisor wrote it."""
    stream: Literal["stdout", "stderr"]
    text: str
    partial: bool = False
    """True when the line had no newline yet and the next one continues it."""
