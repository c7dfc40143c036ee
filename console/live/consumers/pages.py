"""Live pages: a tenant's containers, one container, the node."""

from __future__ import annotations

import json
from typing import Any

from channels.db import database_sync_to_async

from console.accounts.models import Role
from console.core.live import sequence
from console.live import client
from console.live.agent.sampling import METRICS, NODE
from console.live.consumers.base import ContainerPage, LiveConsumer, TenantPage
from console.live.hub import Subscriber, hub
from console.workloads.models import Container

MOST_WATCHED = 2000


class TenantConsumer(TenantPage):
    """A snapshot with the number of the last event, then events and figures of the rows on screen."""

    subscriber: Subscriber | None = None
    watched: frozenset[str] | None = None

    async def opened(self) -> None:
        await self.channel_layer.group_add(f"tenant.{self.tenant.id}", self.channel_name)
        await self._snapshot()
        self.subscriber = hub().join(METRICS + self.tenant.id)
        self.spawn(self._figures(self.subscriber))

    async def _snapshot(self) -> None:
        seq, states = await database_sync_to_async(self._state)()
        await self.say("snapshot", seq=seq, containers=states)

    def _state(self) -> tuple[int, dict[str, str]]:
        """The number first: an event between the two reads is shown twice, never lost."""
        seq = sequence(self.tenant.id)
        rows = Container.objects.of(self.tenant).filter(removed_at__isnull=True).values_list("id", "state")
        return seq, dict(rows)

    async def last_event(self) -> int | None:
        return int(await database_sync_to_async(sequence)(self.tenant.id))

    async def _figures(self, subscriber: Subscriber) -> None:
        while True:
            frame, dropped = await subscriber.get()
            if dropped:
                await self._snapshot()
            content = json.loads(frame)
            rows = content["c"]
            if self.watched is not None:
                rows = {id: row for id, row in rows.items() if id in self.watched}
            if rows:
                await self.say("metrics", t=content["t"], c=rows)

    async def tenant_event(self, message: dict[str, Any]) -> None:
        await self.say("event", event=message["event"])

    async def received(self, message: dict[str, Any]) -> None:
        ids = message.get("watch")
        if isinstance(ids, list) and all(isinstance(id, str) for id in ids):
            self.watched = frozenset(ids[:MOST_WATCHED])
        elif message.get("snapshot"):
            await self._snapshot()

    async def closed(self) -> None:
        if self.subscriber is not None:
            hub().leave(METRICS + self.tenant.id, self.subscriber)
            await self.channel_layer.group_discard(f"tenant.{self.tenant.id}", self.channel_name)


class ContainerConsumer(ContainerPage):
    """The last 15 minutes at once, then each second's figures, and the container's events."""

    subscriber: Subscriber | None = None

    async def opened(self) -> None:
        await self.channel_layer.group_add(f"tenant.{self.container.tenant_id}", self.channel_name)
        self.subscriber = hub().join(METRICS + self.container.tenant_id)
        await self._history()
        self.spawn(self._figures(self.subscriber))

    async def _history(self) -> None:
        try:
            answer = await client.ask("history", self.container.id, self.user_id)
        except (client.AgentUnavailable, client.AgentRefused) as problem:
            await self.say("error", message=str(problem))
            return
        await self.say("history", samples=answer.get("samples", {}))

    async def _figures(self, subscriber: Subscriber) -> None:
        while True:
            frame, dropped = await subscriber.get()
            if dropped:
                await self._history()
            content = json.loads(frame)
            row = content["c"].get(self.container.id)
            if row is not None:
                await self.say("metrics", t=content["t"], c={self.container.id: row})

    async def tenant_event(self, message: dict[str, Any]) -> None:
        event = message["event"]
        if self.container.id in {event.get("id"), event.get("container")}:
            await self.say("event", event=event)

    async def closed(self) -> None:
        if self.subscriber is not None:
            hub().leave(METRICS + self.container.tenant_id, self.subscriber)
            await self.channel_layer.group_discard(f"tenant.{self.container.tenant_id}", self.channel_name)


class NodeConsumer(LiveConsumer):
    """The node's figures are for everybody who is signed in: they say how busy it is, not with what."""

    subscriber: Subscriber | None = None

    def authorise(self) -> Role | None:
        return Role.VIEWER

    async def opened(self) -> None:
        self.subscriber = hub().join(NODE)
        self.spawn(self._figures(self.subscriber))

    async def _figures(self, subscriber: Subscriber) -> None:
        while True:
            frame, _dropped = await subscriber.get()
            await self.say("node", **json.loads(frame))

    async def closed(self) -> None:
        if self.subscriber is not None:
            hub().leave(NODE, self.subscriber)
