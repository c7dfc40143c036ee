"""Truth into the database: exits as they happen, readings each minute, and everything once at the start."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from console.live.agent.sampling import Sampling
from console.metering.collector import seconds_to_next
from console.operations.reconciling import reconcile_rows
from console.operations.runners import node_collector, settle_bills, take_reading
from console.workloads import services as workloads
from runtime.api import ContainerStatus, Engine, State
from runtime.errors import NotFound, RuntimeFault
from runtime.home import Home
from runtime.keeper import Keeper
from runtime.telemetry.exits import ExitWatch

log = logging.getLogger(__name__)
METER_EVERY_S = 60.0
SWEEP_EVERY_S = 10.0
RETRY_S = 5.0
THREADS = ThreadPoolExecutor(4, "truth")
"""Of what asks the database: each keeps a connection of its own, and the agent's others may be hundreds.  An end, a look and a delivery at once."""


class Truth:
    def __init__(self, engine: Engine, sampling: Sampling, exits: Path) -> None:
        self._engine = engine
        self._sampling = sampling
        self._collector = node_collector(engine)
        self._watch = ExitWatch(exits)
        self._pending: asyncio.Queue[str] = asyncio.Queue()
        self.keeper = Keeper(engine, self._kept, Home.from_environment().image_marks)

    async def adopt(self) -> None:
        """At the start: reconcile with the kernel, then with the database."""
        await sync_to_async(self._adopt)()

    def _adopt(self) -> None:
        close_old_connections()
        found = self._engine.reconcile()
        settle_bills(self._engine)
        strangers = reconcile_rows(self._engine)
        log.info("adopted %d containers, settled %d, finished %d removals, swept %d leftovers",
                 len(found.adopted), len(found.settled), len(found.removed), len(found.swept))  # fmt: skip
        if strangers:
            log.warning("the engine has %d things that no row knows: %s", len(strangers), ", ".join(strangers))

    async def follow_exits(self) -> None:
        """An exit file appears the moment a container has ended; a sweep finds what a missed one would have told."""
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._exited)
        while True:
            try:
                async with asyncio.timeout(SWEEP_EVERY_S):
                    id = await self._pending.get()
            except TimeoutError:
                await self._guarded(self._sweep)
                continue
            await self._guarded(self._settle, id)
            self._sampling.refresh()

    def _exited(self) -> None:
        for id in self._watch.read():
            self._pending.put_nowait(id)

    async def _guarded(self, work: Callable[..., None], *args: str) -> None:
        try:
            await sync_to_async(work, thread_sensitive=False, executor=THREADS)(*args)
        except Exception:
            log.exception("taking in the truth failed; the next sweep tries again")

    def _settle(self, id: str) -> None:
        close_old_connections()
        try:
            status = self._engine.settle(id)
            workloads.observe(status)
        except NotFound:
            log.debug("%s was removed meanwhile", id)
            status = None
        settle_bills(self._engine, id)
        if status is not None:
            self.keeper.note(status)

    async def keep(self) -> None:
        """Restarts as policies want them, for as long as the agent runs."""
        try:
            await asyncio.to_thread(self.keeper.run)
        finally:
            self.keeper.stop()

    def _kept(self, status: ContainerStatus) -> None:
        """What the keeper has brought about; the bill of one start is closed before the next begins."""
        close_old_connections()
        settle_bills(self._engine, status.id)
        workloads.observe(status)
        if status.state is State.RUNNING:
            take_reading(status.id, self._engine)

    def _sweep(self) -> None:
        """What runs by its status but has ended, and final readings that a crash kept from the database."""
        close_old_connections()
        upkeep = getattr(self._engine, "upkeep", None)
        if upkeep is not None:
            upkeep()
        for status in self._engine.list():
            if status.state is State.RUNNING and not os.path.exists(f"/proc/{status.pid}"):
                self._settle(status.id)
        settle_bills(self._engine)

    async def meter(self) -> None:
        """Readings each minute and around each full hour, durable on the node; the database may be away for days, or hang."""
        delivering: asyncio.Task[None] | None = None
        while True:
            await asyncio.sleep(seconds_to_next(time.time(), METER_EVERY_S))
            await self._guarded(self._collect)
            if delivering is None or delivering.done():
                delivering = asyncio.create_task(self._guarded(self._deliver))

    def _collect(self) -> None:
        try:
            self._collector.collect()
        except RuntimeFault as fault:
            log.warning("metering: %s", fault)

    def _deliver(self) -> None:
        close_old_connections()
        self._collector.deliver()
