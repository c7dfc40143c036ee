"""The containers that a person means by an id or a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.errors import Conflict, NotFound

if TYPE_CHECKING:
    from runtime.api import ContainerStatus, Engine

TENANT = "cli"
"""Whose all that is made here is."""


def find(engine: Engine, text: str) -> ContainerStatus:
    here = engine.list()
    found = [status for status in here if status.id == text] or [status for status in here if status.name == text]
    if not found:
        raise NotFound(f"There is no container {text!r}.", hint="See: python -m runtime ps.")
    if len(found) > 1:  # of different tenants
        ids = ", ".join(status.id for status in found)
        raise Conflict(f"Several containers are named {text!r}.", hint=f"Give the id of one: {ids}.")
    return found[0]


def all_ids(engine: Engine, texts: Sequence[str]) -> list[str]:
    """Every one is found before anything is done to the first."""
    return [find(engine, text).id for text in texts]
