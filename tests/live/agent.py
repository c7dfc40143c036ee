"""An agent's socket in a thread of its own, for tests whose other side is synchronous, as the views are."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from console.live.agent.history import History
from console.live.agent.server import Server
from runtime.api import Engine


@contextlib.contextmanager
def agent(engine: Engine, socket: Path) -> Iterator[None]:
    """At the end every connection has ended, too."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(Server(engine, History()).listen(socket))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=20) if others else None
