"""Refuse restart policies that cannot be, naming the field."""

from __future__ import annotations

from runtime.api import RESTART_MODES, ContainerSpec
from runtime.errors import InvalidSpec

MOST_RETRIES = 1_000_000


def check_life(spec: ContainerSpec) -> None:
    """Raises InvalidSpec for the first thing that is wrong."""
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
