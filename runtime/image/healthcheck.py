"""An image's own health check: ``Healthcheck`` of its configuration, as Docker's builder writes it (times in nanoseconds)."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.api import HealthCheck

NANOSECONDS = 1e9
SHORTEST_S, LONGEST_S, LONGEST_TIMEOUT_S = 1.0, 86400.0, 300.0
MOST_RETRIES = 1000
LARGEST = 2**63 - 1
"""As Docker's own."""


def of_image(config: Mapping[str, object]) -> HealthCheck | None:
    """None: the image has none, says NONE, or what it says is no check.  Its figures are held within what a spec may say."""
    fields = config.get("Healthcheck")
    if not isinstance(fields, dict):
        return None
    command = _command(fields.get("Test"))
    if command is None:
        return None
    return HealthCheck(
        "command",
        command,
        interval_s=_seconds(fields.get("Interval"), 30.0, LONGEST_S),
        timeout_s=_seconds(fields.get("Timeout"), 30.0, LONGEST_TIMEOUT_S),
        retries=min(MOST_RETRIES, _number(fields.get("Retries")) or 3),
        start_period_s=min(LONGEST_S, _number(fields.get("StartPeriod")) / NANOSECONDS),
    )


def _command(test: object) -> tuple[str, ...] | None:
    if not isinstance(test, list) or not all(isinstance(word, str) for word in test) or len(test) < 2:
        return None
    if test[0] == "CMD-SHELL":
        return ("/bin/sh", "-c", test[1])
    return tuple(test[1:]) if test[0] == "CMD" else None


def _number(value: object) -> int:
    """0: none, or nonsense."""
    return min(value, LARGEST) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _seconds(value: object, otherwise: float, most: float) -> float:
    given = _number(value)
    return max(SHORTEST_S, min(most, given / NANOSECONDS)) if given else otherwise
