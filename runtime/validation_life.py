"""Refuse restart policies and health checks that cannot be, naming the field."""

from __future__ import annotations

import re

from runtime.api import CHECK_KINDS, RESTART_MODES, ContainerSpec, HealthCheck
from runtime.errors import InvalidSpec

MOST_RETRIES = 1_000_000
PATH = re.compile(r"/[!-~]{0,1023}")


def check_life(spec: ContainerSpec) -> None:
    """Raises InvalidSpec for the first thing that is wrong."""
    if spec.health is not None:
        _check_health(spec.health)
    mode, retries = spec.restart.mode, spec.restart.retries
    if mode not in RESTART_MODES:
        raise InvalidSpec(
            f"{mode!r} is not a restart policy.",
            hint="Use no, on-failure, always or unless-stopped.",
            field="restart.mode",
        )
    if retries is None:
        return
    if mode != "on-failure":
        raise InvalidSpec(
            "Only the restart policy on-failure counts its retries.", hint="Leave them out.", field="restart.retries"
        )
    if not 1 <= retries <= MOST_RETRIES:
        raise InvalidSpec(
            "The retries are not from 1 to 1000000.", hint="Leave them out for no end.", field="restart.retries"
        )


def _check_health(check: HealthCheck) -> None:
    if check.kind not in CHECK_KINDS:
        raise InvalidSpec(
            f"{check.kind!r} is not a kind of health check.",
            hint="Use none, command, http or tcp.",
            field="health.kind",
        )
    if check.kind == "command" and (not check.command or not check.command[0] or "\0" in "".join(check.command)):
        raise InvalidSpec("The health check has no command.", hint="Give one.", field="health.command")
    if check.kind in {"http", "tcp"} and not 1 <= (check.port or 0) <= 65535:
        raise InvalidSpec("The health check has no port.", hint="Ports go from 1 to 65535.", field="health.port")
    if not PATH.fullmatch(check.path):
        raise InvalidSpec(
            "The path of the health check is not one.", hint="Begin it with '/', without spaces.", field="health.path"
        )
    _check_times(check)


def _check_times(check: HealthCheck) -> None:
    if not 1 <= check.interval_s <= 86400:
        raise InvalidSpec(
            "The interval is not from 1 second to a day.", hint="Choose another.", field="health.interval_s"
        )
    if not 0.1 <= check.timeout_s <= 300:
        raise InvalidSpec(
            "The timeout is not from 0.1 to 300 seconds.", hint="Choose another.", field="health.timeout_s"
        )
    if not 1 <= check.retries <= 1000:
        raise InvalidSpec("The retries are not from 1 to 1000.", hint="Choose another.", field="health.retries")
    if not 0 <= check.start_period_s <= 86400:
        raise InvalidSpec(
            "The start period is not from 0 seconds to a day.", hint="Choose another.", field="health.start_period_s"
        )
