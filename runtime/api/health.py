"""Health checks: whether the program in a container does its work, asked again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runtime.api.healthcheck import HealthCheck, HealthState

if TYPE_CHECKING:
    from runtime.api.status import ContainerStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one check."""

    ok: bool
    output: str = ""
    """What was said, at most 500 characters of its end."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A running container with a check."""

    check: HealthCheck
    epoch: int
    started_at: float
    state: HealthState


def never() -> bool:
    return False


class Health(Protocol):
    """Checks are run by whoever keeps the containers (:class:`runtime.keeper.Keeper`); the engine makes each one and remembers the verdict."""

    def watched(self) -> Mapping[str, Watched]:
        """Running containers with a check, their own or their image's.  Cheap enough to be asked every few seconds of 1,000."""

    def probe(self, id: str, *, given_up: Callable[[], bool] = never) -> Outcome:
        """One check, now.  It fails at its timeout, and early when ``given_up`` says so.

        Raises NotFound, Conflict (not running; paused, also meanwhile if it failed: that is no verdict), InvalidSpec (it has no check).
        """

    def report(self, id: str, epoch: int, state: HealthState, output: str = "") -> ContainerStatus | None:
        """The verdict on this start; told as an event when it is another.  None: that start is over, or it was so already."""
