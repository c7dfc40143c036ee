"""Health checks: whether the program in a container does its work, asked again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from runtime.api.status import ContainerStatus

CheckKind = Literal["none", "command", "http", "tcp"]
CHECK_KINDS: tuple[CheckKind, ...] = ("none", "command", "http", "tcp")
HealthState = Literal["", "starting", "healthy", "unhealthy"]
"""Empty: there is no check, or the container does not run."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """``none`` also does away with the image's own.

    ``command`` is run in the container, and exit code 0 is health.  ``http`` asks for ``path`` at ``port``, and an answer from
    200 to 399 is health; ``tcp`` connects to ``port``.  Both come from within the container's network: to its loopback, then to its address.
    """

    kind: CheckKind
    command: tuple[str, ...] = ()
    port: int | None = None
    path: str = "/"
    interval_s: float = 30.0
    timeout_s: float = 10.0
    """Nothing of a check is left after it."""
    retries: int = 3
    """Failures in a row that make it unhealthy."""
    start_period_s: float = 0.0
    """So long after its start no failure counts, as long as it has not been healthy."""


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

        Raises NotFound, Conflict (not running), InvalidSpec (it has no check).
        """

    def report(self, id: str, epoch: int, state: HealthState, output: str = "") -> ContainerStatus | None:
        """The verdict on this start; told as an event when it is another.  None: that start is over, or it was so already."""
