"""The process's engine.  Only the tasks and the agent call it."""

from __future__ import annotations

import threading

from django.conf import settings

from runtime.api import Engine
from runtime.engines import open_engine
from runtime.home import Home

_lock = threading.Lock()
_engine: Engine | None = None


def home() -> Home:
    defaults = Home.from_environment()
    return Home(settings.HOME, settings.INSTANCE, defaults.subnets, defaults.uid_base)


def current() -> Engine:
    """Made at the first call."""
    global _engine  # noqa: PLW0603 -- one engine a process, by intent
    with _lock:
        if _engine is None:
            _engine = open_engine(settings.ENGINE, home())
        return _engine
