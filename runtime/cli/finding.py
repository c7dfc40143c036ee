"""The containers that a person means by an id or a name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.api import State
from runtime.errors import Conflict, NotFound, RuntimeFault

if TYPE_CHECKING:
    from runtime.api import ContainerStatus, Engine

TENANT = "cli"
"""Whose all that is made here is."""


def here(engine: Engine) -> tuple[ContainerStatus, ...]:
    """All, of every tenant.  Where no agent and no ``watch`` runs, nobody has seen yet what ended: it is settled now."""
    return tuple(filter(None, (_settled(engine, status) for status in engine.list())))


def _settled(engine: Engine, status: ContainerStatus) -> ContainerStatus | None:
    """None: somebody removed it meanwhile."""
    if status.state is not State.RUNNING or status.pid is None or Path(f"/proc/{status.pid}").exists():
        return status
    try:
        return engine.settle(status.id)
    except NotFound:
        return None
    except RuntimeFault:  # as that somebody else is at it: it is shown as it was
        return status


def find(engine: Engine, text: str) -> ContainerStatus:
    listed = here(engine)
    found = [status for status in listed if status.id == text] or [status for status in listed if status.name == text]
    if not found:
        raise NotFound(f"There is no container {text!r}.", hint="See: python -m runtime ps.")
    if len(found) > 1:  # of different tenants
        ids = ", ".join(status.id for status in found)
        raise Conflict(f"Several containers are named {text!r}.", hint=f"Give the id of one: {ids}.")
    return found[0]


def all_ids(engine: Engine, texts: Sequence[str]) -> list[str]:
    """Every one is found before anything is done to the first."""
    return [find(engine, text).id for text in texts]


def each(engine: Engine, texts: Sequence[str], work: Callable[[str], object]) -> int:
    """What is refused of one is told, and done to the others all the same.  The exit code."""
    code = 0
    for id, text in zip(all_ids(engine, texts), texts, strict=True):
        try:
            work(id)
        except RuntimeFault as fault:
            if len(texts) == 1:
                raise
            tell(text, fault)
            code = 1
    return code


def tell(text: str, fault: RuntimeFault) -> None:
    """What was refused of one of several."""
    from runtime.cli.words import plain

    print(plain(f"{text}: {fault}"), file=sys.stderr)
