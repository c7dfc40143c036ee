"""Refuses to start on a setting that cannot be right."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning

from console.settings import environment


@register()
def settings_are_right(**_kwargs: Any) -> list[CheckMessage]:
    return [Error(problem, id="console.E001") for problem in environment.PROBLEMS]


@register(deploy=True)
def secrets_exist(**_kwargs: Any) -> list[CheckMessage]:
    missing = [name for name in ("AGENT_KEY", "FERNET_KEY") if not getattr(settings, name)]
    return [
        CheckWarning(f"{name} is missing.", hint="Run `./slipway up`, which makes it.", id="console.W002")
        for name in missing
    ]
