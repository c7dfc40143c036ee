"""One Redis subscription a process for live figures, handed on to the local consumers as the text that came.

A consumer has a bounded queue: a browser that does not keep up loses what it could not take and is told so, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict

import redis.asyncio as redis
from django.conf import settings
from redis.exceptions import RedisError

from console.live.agent.sampling import LAST, METRICS, WATCH

log = logging.getLogger(__name__)
QUEUE = 64
WATCH_TTL_S = 15
WATCH_EVERY_S = 5.0
RETRY_S = 1.0


class Subscriber:
    """What one consumer has yet to take."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str] = asyncio.Queue(QUEUE)
        self.dropped = 0

    def put(self, frame: str) -> None:
        if self._queue.full():
            while not self._queue.empty():
                self._queue.get_nowait()
                self.dropped += 1
        self._queue.put_nowait(frame)

    async def get(self) -> tuple[str, int]:
        """The next frame, and how many were dropped before it."""
        frame = await self._queue.get()
        dropped, self.dropped = self.dropped, 0
        return frame, dropped


class Hub:
    def __init__(self, url: str) -> None:
        self._url = url
        self._subscribers: dict[str, set[Subscriber]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._new: list[tuple[str, Subscriber]] = []

    def join(self, channel: str) -> Subscriber:
        subscriber = Subscriber()
        self._subscribers[channel].add(subscriber)
        self._new.append((channel, subscriber))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return subscriber

    def leave(self, channel: str, subscriber: Subscriber) -> None:
        members = self._subscribers.get(channel)
        if members is not None:
            members.discard(subscriber)
            if not members:
                del self._subscribers[channel]

    def _tenants(self) -> list[str]:
        return [name.removeprefix(METRICS) for name in self._subscribers if name.startswith(METRICS)]

    async def _run(self) -> None:
        """Until nobody listens; a Redis that went away is tried again each second."""
        while self._subscribers:
            client = redis.from_url(self._url, socket_connect_timeout=2)
            try:
                await self._listen(client)
            except (RedisError, OSError):
                log.info("redis is away; live figures pause")
                await asyncio.sleep(RETRY_S)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    async def _listen(self, client: redis.Redis) -> None:
        async with client.pubsub() as pubsub:
            subscribed: set[str] = set()
            due = 0.0
            loop = asyncio.get_running_loop()
            while self._subscribers:
                wanted = set(self._subscribers)
                if wanted - subscribed:
                    await pubsub.subscribe(*(wanted - subscribed))
                await self._greet(client)
                if subscribed - wanted:
                    await pubsub.unsubscribe(*(subscribed - wanted))
                if wanted != subscribed or loop.time() >= due:
                    subscribed, due = wanted, loop.time() + WATCH_EVERY_S
                    await self._watch(client)
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.25)
                if message is not None:
                    self._hand_on(message["channel"].decode(), message["data"].decode())

    async def _greet(self, client: redis.Redis) -> None:
        """Newcomers get their channel's last message at once."""
        newcomers, self._new = self._new, []
        for channel, subscriber in newcomers:
            last = await client.get(LAST + channel)
            if last is not None:
                subscriber.put(last if isinstance(last, str) else last.decode())

    async def _watch(self, client: redis.Redis) -> None:
        """Tell the agent whom to sample at 1 Hz."""
        for tenant in self._tenants():
            await client.set(WATCH + tenant, "1", ex=WATCH_TTL_S)

    def _hand_on(self, channel: str, frame: str) -> None:
        for subscriber in self._subscribers.get(channel, ()):
            subscriber.put(frame)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def hub() -> Hub:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        for closed in [known for known in _hubs if known.is_closed()]:
            del _hubs[closed]
        _hubs[loop] = Hub(settings.METRICS_REDIS_URL)
    return _hubs[loop]
