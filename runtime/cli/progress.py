"""How far something is, for a person who waits."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.api import Step


def tell(step: Step) -> None:
    """On a terminal, in one line."""
    if sys.stderr.isatty():
        share = f" {step.done * 100 // step.total}%" if step.total else ""
        width = shutil.get_terminal_size().columns
        print(f"\r\x1b[K{step.stage}{share} {step.detail}"[:width], end="", file=sys.stderr)
        if step.stage == "start":
            told_all()


def told_all() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
