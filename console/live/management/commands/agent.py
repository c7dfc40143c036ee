from __future__ import annotations

import asyncio
import fcntl
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.live.agent.main import serve
from console.live.agent.server import socket_path


class Command(BaseCommand):
    help = "Run the node's agent in the foreground: sampling, exits, metering, logs and terminals."

    def handle(self, *_args: Any, **_options: Any) -> None:
        path = socket_path().with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError("An agent runs already for this instance.") from None
            asyncio.run(serve())
