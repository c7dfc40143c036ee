"""The agent's tasks, together until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor

from asgiref.sync import sync_to_async

from console.catalog.services import prepare_builtin
from console.live.agent.history import History
from console.live.agent.sampling import Sampling
from console.live.agent.server import Server, socket_path
from console.live.agent.truth import RETRY_S, Truth
from console.operations import engine as engines

log = logging.getLogger(__name__)


THREADS = 256
"""Made as they are needed.  asyncio's own would be six on two processors, and each copy, and each exec that does not begin, has one."""


async def serve() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "agent"))
    engine = engines.current()
    history = History()
    sampling = Sampling(engine, history)
    truth = Truth(engine, sampling, engines.home().exits)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await Server(engine, history).listen(socket_path())
    metering = asyncio.create_task(truth.meter())  # onto the node's disk, so it need not wait for the database
    await _adopt(truth)
    log.info("agent ready.")
    tasks = [metering, *(asyncio.create_task(part) for part in (sampling.run(), truth.follow_exits(), truth.keep()))]
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    server.close()
    truth.keeper.stop()
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()


async def _adopt(truth: Truth) -> None:
    """The database may be away for a while; containers do not mind.  Then what the catalog lacks is built in the background."""
    while True:
        try:
            await truth.adopt()
            await sync_to_async(prepare_builtin)()
        except Exception:
            log.exception("adopting failed; trying again in %g seconds", RETRY_S)
            await asyncio.sleep(RETRY_S)
        else:
            return
