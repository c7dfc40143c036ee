"""What happened on the node: a durable, ordered, bounded stream that survives a restart of everything."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class EventKind(enum.StrEnum):
    """What can happen, each with the keys of its ``data``."""

    CREATED = "created"
    STARTED = "started"
    """``epoch``; ``by``: ``policy`` when its restart policy did it."""
    DIED = "died"
    """``epoch``; ``exit_code``, absent when its supervisor was lost."""
    OOM = "oom"
    """``epoch``: the kernel killed for want of memory in this start; told before ``died``.  Of what lives on: ``kills`` so far."""
    RESTARTING = "restarting"
    """Its restart policy will start it again: ``in_s``, ``number`` of the restart since a person started it."""
    RESTART_FAILED = "restart_failed"
    """``message``: why the policy's start failed; another ``restarting`` follows unless it has given up."""
    STOPPED = "stopped"
    """Somebody asked for its end; ``died`` follows when it comes."""
    KILLED = "killed"
    """``signal``"""
    PAUSED = "paused"
    """This and those up to ``renamed``: by a verb; what a crash cut short between the deed and its event is not told."""
    RESUMED = "resumed"
    UPDATED = "updated"
    """``memory_bytes``, ``cpu_millis``: what they are now."""
    RENAMED = "renamed"
    """``before``: the name that it had."""
    CONNECTED = "connected"
    """``network``, ``address``, ``address6``: those that it has there, both empty while it does not run.

    By a verb, as the next; of what ran when a crash came between the deed and its event, whoever finishes the deed tells it, once.
    """
    DISCONNECTED = "disconnected"
    """``network``"""
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """``output``: what the check said last."""
    REMOVED = "removed"
    PULLED = "pulled"
    """Of an image, as are the next four."""
    LOADED = "loaded"
    BUILT = "built"
    PUSHED = "pushed"
    IMAGE_REMOVED = "image_removed"


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    """Grows by one with each event of this node, whoever tells it."""
    at: float
    """When it happened, seconds since the epoch, UTC.  What a crash kept from being told is told late, under a higher number."""
    kind: EventKind
    subject: str
    """The container's or the image's id."""
    tenant: str = ""
    """Empty for images."""
    name: str = ""
    """The container's name, or the image's reference."""
    data: Mapping[str, str | float] = field(default_factory=dict)


class Events(Protocol):
    """The node's stream.  About the last 40,000 events are kept; of older ones a reader learns by the gap in the numbers."""

    def read(
        self,
        *,
        after: int = 0,
        since: float | None = None,
        until: float | None = None,
        subject: str | None = None,
        tenant: str | None = None,
        follow: bool = False,
    ) -> Iterator[Event]:
        """Oldest first: those with a number above ``after``, told of ``since`` to ``until`` (seconds since the epoch, both within).

        ``follow`` goes on with what comes, until ``until`` has passed, or without end.
        """

    def last(self) -> int:
        """The number of the newest; 0 when there is none.  To be noted before a look at the containers, and read ``after`` it."""
