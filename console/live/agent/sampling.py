"""Sampling on ticks of a second: watched tenants at each, all others at every tenth; one message a tenant and tick."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import defaultdict
from typing import Any

import psutil
import redis.asyncio as redis
from django.conf import settings
from redis.exceptions import RedisError

from console.live.agent.history import History, Sample
from runtime.api import ContainerStatus, Counters, Engine, State

log = logging.getLogger(__name__)
TICK_S = 1.0
UNWATCHED_EVERY = 10
LIST_EVERY = 5
METRICS = "slipway:metrics:"
WATCH = "slipway:watch:"
NODE = "slipway:node"
LAST = "slipway:last:"
"""Prefix of the keys that keep each channel's last message, so that a page that opens need not wait for the next."""
LAST_S = 30
KEEP_EVERY = 5
"""Divides UNWATCHED_EVERY, so that what is sampled seldom is kept each time."""


class Sampling:
    def __init__(self, engine: Engine, history: History) -> None:
        self._engine = engine
        self._history = history
        self._redis = redis.from_url(settings.METRICS_REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
        self._running: dict[str, ContainerStatus] = {}
        self.latest: dict[str, Counters] = {}
        psutil.cpu_percent(None)

    async def run(self) -> None:
        """Forever.  A late tick is skipped, never made up for."""
        number, due = 0, time.monotonic()
        while True:
            try:
                await self.tick(number)
            except Exception:
                log.exception("a tick failed")
            number += 1
            due = max(due + TICK_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def tick(self, number: int) -> None:
        if number % LIST_EVERY == 0:
            self.refresh()
        watched = await self._watched()
        everybody = number % UNWATCHED_EVERY == 0
        ids = [id for id, status in self._running.items() if everybody or status.tenant in watched]
        frames = self._sample(ids)
        await self._publish(frames, node=number % 2 == 0, keep=number % KEEP_EVERY == 0)

    def refresh(self) -> None:
        """Which containers run now; called when one is known to have started or ended, too."""
        self._running = {status.id: status for status in self._engine.list() if status.state is State.RUNNING}
        for status in self._running.values():
            self._history.follow(status.id, status.tenant, status.epoch)
        recent = {id for id, track in self._history.tracks.items() if track.last and time.time() - track.last.at < 900}
        self._history.keep_only(set(self._running) | recent)

    def _sample(self, ids: list[str]) -> dict[str, dict[str, Sample]]:
        """Tenant -> container -> row."""
        frames: dict[str, dict[str, Sample]] = defaultdict(dict)
        for id, counters in self._engine.counters(ids, live=True).items():
            self.latest[id] = counters
            frames[self._running[id].tenant][id] = self._history.add(id, counters)
        return frames

    async def _watched(self) -> set[str]:
        with contextlib.suppress(RedisError, OSError):
            return {key.decode().removeprefix(WATCH) async for key in self._redis.scan_iter(f"{WATCH}*", count=500)}
        return set()

    async def _publish(self, frames: dict[str, dict[str, Sample]], *, node: bool, keep: bool) -> None:
        now = round(time.time() * 1000)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                messages = {METRICS + tenant: {"t": now, "c": rows} for tenant, rows in frames.items()}
                if node:
                    messages[NODE] = {"t": now, **node_figures()}
                for channel, message in messages.items():
                    text = json.dumps(message, separators=(",", ":"))
                    pipe.publish(channel, text)
                    if keep or channel == NODE:
                        pipe.set(LAST + channel, text, ex=LAST_S)
                await pipe.execute()
        except (RedisError, OSError):
            log.debug("redis is away; this tick is not shown")


def node_figures() -> dict[str, Any]:
    """The node as psutil sees it: vCPU in use, bytes, and the load of 1, 5 and 15 minutes."""
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(settings.HOME))
    cpus = psutil.cpu_count() or 1
    return {
        "cpu": round(psutil.cpu_percent(None) * cpus / 100, 3),
        "cpus": cpus,
        "mem": memory.total - memory.available,
        "mem_total": memory.total,
        "disk": disk.used,
        "disk_total": disk.used + disk.free,
        "load": [round(value, 2) for value in psutil.getloadavg()],
    }
