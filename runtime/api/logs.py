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
    lost_before: int = 0
    """About how many bytes of the log (as it is stored, of both streams) its rotation took away unread since the line before that was
    told: the container writes on whoever reads how slowly, and the log has its limit.  0: none."""
