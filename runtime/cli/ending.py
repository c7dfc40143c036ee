"""With what code a container's program ended, also where somebody has started it anew or removed it since."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from runtime.errors import NotFound

if TYPE_CHECKING:
    from runtime.api import Engine


def code_of(engine: Engine, id: str, epoch: int) -> int | None:
    """Of its start number ``epoch``.  None: it goes on, or nobody knows."""
    with suppress(NotFound):
        status = engine.settle(id)
        if status.epoch == epoch:
            return status.exit_code
    return _told(engine, id, epoch)


def _told(engine: Engine, id: str, epoch: int) -> int | None:
    for event in engine.events.read(subject=id):
        if event.kind == "died" and event.data.get("epoch") == epoch and "exit_code" in event.data:
            return int(event.data["exit_code"])
    return None
