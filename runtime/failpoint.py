"""Named points between the steps of a verb at which a test can have this process die as by kill -9."""

from __future__ import annotations

import os
import signal

_CHOSEN = os.environ.get("SLIPWAY_FAILPOINT", "")


def failpoint(name: str) -> None:
    if _CHOSEN and name == _CHOSEN:
        os.kill(os.getpid(), signal.SIGKILL)
