"""What a restart policy decides, and when: the one place of it, for every engine.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.api import RestartPolicy

FIRST_S = 0.1
LONGEST_S = 60.0
WELL_S = 10.0
"""A start that lasted so long was a good one: the waits begin anew."""


@dataclass(frozen=True, slots=True)
class Past:
    """Of a container that has ended, or whose start by its policy has just failed."""

    stopped: bool
    """Somebody asked for its end."""
    exit_code: int | None
    """None when it is not known, which no policy takes for a success."""
    cut_off: bool
    """The node went down under it."""
    ran_s: float
    restarts: int
    failures: int


@dataclass(frozen=True, slots=True)
class Decision:
    wait_s: float | None
    """None: it stays as it is."""
    failures: int


def decide(policy: RestartPolicy, past: Past) -> Decision:
    failures = 0 if past.ran_s >= WELL_S else past.failures
    if past.stopped or policy.mode == "no":
        return Decision(None, 0)
    if past.cut_off:
        return Decision(0.0, failures)
    if policy.mode == "on-failure" and (past.exit_code == 0 or _spent(policy, past.restarts)):
        return Decision(None, failures)
    return Decision(min(LONGEST_S, FIRST_S * 2.0 ** min(failures, 32)), failures + 1)


def _spent(policy: RestartPolicy, restarts: int) -> bool:
    return policy.retries is not None and restarts >= policy.retries


def due(at: float, now: float) -> bool:
    """Also when the clock was set back: nothing waits longer than the longest wait."""
    return at <= now or at - now > LONGEST_S
