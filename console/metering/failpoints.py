"""Named points between the steps of metering at which a test can have this process die as by kill -9."""

from __future__ import annotations

import os
import signal

POINTS = (
    "spool.written", "spool.synced", "ingest.stored", "drain.taken", "drain.moved", "final.ingested", "rating.written", "close.rated",
    "close.frozen", "budget.reached",
    "export.stored", "export.manifest",
)  # fmt: skip


def failpoint(name: str) -> None:
    if os.environ.get("SLIPWAY_FAILPOINT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
