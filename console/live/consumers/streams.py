"""Logs and terminals: straight from the agent's socket, so that a slow browser slows only itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, cast

from channels.db import database_sync_to_async
from django.utils.translation import gettext as _

from console.accounts.address import acting_from
from console.accounts.models import Role, User
from console.accounts.services import audit
from console.live import client, frames
from console.live.consumers.base import ContainerPage

START_S = 10.0
MOST_AHEAD = 4
TERMINAL_RECHECK_S = 5.0
"""Sooner than other pages: who lost the right must not type for long."""


class StreamConsumer(ContainerPage):
    """Waits for the browser's first message, opens the verb with it, and relays until one side ends."""

    verb = ""

    async def opened(self) -> None:
        self._first: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)
        self._begun = False
        self._connection: client.Connection | None = None
        self._settled = asyncio.Event()  # open, or never to be
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.spawn(self._relay())

    async def _relay(self) -> None:
        try:
            async with asyncio.timeout(START_S):
                args = await self._first.get()
        except TimeoutError:
            args = {}
        try:
            async with client.opened(self.verb, self.container.id, self.user_id, args) as connection:
                self._connection = connection
                self._settled.set()
                await self.say("open")
                await self._pump(connection)
        except (client.AgentUnavailable, client.AgentRefused) as problem:
            await self.say("error", message=str(problem))
        except (asyncio.IncompleteReadError, ConnectionError, frames.BadFrame):
            await self.say("error", message=_("The connection to the node's agent broke off."))
        finally:
            self._connection = None
            self._settled.set()
        await self.close()

    async def _pump(self, connection: client.Connection) -> None:
        while True:
            await self._flowing.wait()
            kind, payload = await frames.read_frame(connection.reader)
            if kind == frames.END:
                await self.say("end")
                return
            if kind == frames.CONTROL:
                await self.say("control", **frames.parse_line(payload))
            else:
                await self.deliver(payload)

    async def deliver(self, payload: bytes) -> None:
        raise NotImplementedError

    async def received(self, message: dict[str, Any]) -> None:
        if not self._begun:
            self._begun = True
            self._first.put_nowait(message)
        elif connection := await self._opening():
            await self.steered(connection, message)

    async def _opening(self) -> client.Connection | None:
        """What comes while the verb is being opened waits for it, in its order."""
        await self._settled.wait()
        return self._connection

    async def steered(self, connection: client.Connection, message: dict[str, Any]) -> None: ...


class LogConsumer(StreamConsumer):
    """A page that says ``{"acknowledge": true}`` first gets MOST_AHEAD batches more than it has ``{"taken": n}`` of.

    A browser keeps what its page has not handled, however much that is: without this a flood is shown minutes late.
    """

    verb = "logs"
    _room: asyncio.Semaphore | None = None

    async def received(self, message: dict[str, Any]) -> None:
        if not self._begun and message.get("acknowledge"):
            self._room = asyncio.Semaphore(MOST_AHEAD)
        await super().received(message)

    async def steered(self, _connection: client.Connection, message: dict[str, Any]) -> None:
        taken = message.get("taken")
        if self._room is not None and isinstance(taken, int):
            for _ in range(min(taken, MOST_AHEAD)):
                self._room.release()

    async def deliver(self, payload: bytes) -> None:
        if self._room is not None:
            await self._room.acquire()
        await self.say("lines", lines=json.loads(payload))


class TerminalConsumer(StreamConsumer):
    """Binary both ways; ``{"resize": [columns, rows]}``; ``{"pause": true}`` and ``{"resume": true}`` while the screen catches up."""

    verb = "exec"
    needs = Role.MEMBER

    async def opened(self) -> None:
        await database_sync_to_async(self._audited)()
        await super().opened()

    def _audited(self) -> None:
        client = self.scope.get("client") or ("",)
        with acting_from(str(client[0])):
            audit(
                "container.terminal", actor=cast("User", self.user), tenant=self.container.tenant,
                target=self.container.id, name=self.container.name,
            )  # fmt: skip

    def recheck_s(self) -> float:
        return TERMINAL_RECHECK_S

    async def deliver(self, payload: bytes) -> None:
        await self.send(bytes_data=payload)

    async def steered(self, connection: client.Connection, message: dict[str, Any]) -> None:
        if message.get("pause"):
            self._flowing.clear()
        elif message.get("resume"):
            self._flowing.set()
        elif "resize" in message:
            with contextlib.suppress(ConnectionError):
                await connection.send(frames.control(resize=message["resize"]))

    async def received_bytes(self, content: bytes) -> None:
        if connection := await self._opening():
            with contextlib.suppress(ConnectionError):  # the relay sees it too, and says so
                await connection.send(frames.frame(frames.DATA, content))
