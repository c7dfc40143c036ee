"""How it is found out whether the program in a container does its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
