"""Where a scheduled export's files go.  A place takes one file after the other; the same name again replaces it, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Refused(Exception):
    """Trying again does not help, until a person changes something.  Its sentence says what."""


class Failed(Exception):
    """Trying again may help."""


class Place(Protocol):
    def put(self, name: str, source: Path) -> None:
        """``name`` is relative, its parts joined by ``/``.  Once it returns the file is there, whole.  Raises Refused, Failed."""
