"""How far a long verb is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a long verb.  ``done``/``total`` in the unit of the stage; total None when unknown."""

    stage: Literal[
        "resolve",
        "download",
        "upload",
        "verify",
        "unpack",
        "save",
        "build",
        "create",
        "network",
        "start",
        "stop",
        "remove",
    ]
    done: int = 0
    total: int | None = None
    detail: str = ""


Progress = Callable[[Step], None]
"""Called from the work itself, now and then.  What it raises ends the verb like any fault: nothing half done is left."""


def no_progress(_step: Step) -> None:
    """For callers that show none."""
