"""The web process's side of the agent's socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.utils.translation import gettext as _

from console.accounts.models import User
from console.live import frames, tickets
from console.workloads.models import Container

CONNECT_S = 3.0
ANSWER_S = 20.0


class AgentUnavailable(Exception):
    """The agent is down or does not answer; the message is for a person."""

    def __init__(self) -> None:
        super().__init__(_("The node's agent does not answer. It is started again by itself: try in a moment."))


class AgentRefused(Exception):
    """The agent's own word on why it will not; ``code`` for programs, the message for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Connection:
    answer: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, payload: bytes) -> None:
        self.writer.write(payload)
        await self.writer.drain()


@asynccontextmanager
async def opened(
    verb: str, container_id: str, user_id: int, args: Mapping[str, Any] | None = None
) -> AsyncIterator[Connection]:
    """Raises AgentUnavailable, AgentRefused."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_unix_connection(settings.AGENT_SOCKET, limit=16 << 20)
    except (OSError, TimeoutError):
        raise AgentUnavailable from None
    try:
        request = {"ticket": tickets.sign(user_id, container_id, verb), "args": dict(args or {})}
        writer.write(json.dumps(request).encode() + b"\n")
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = frames.parse_line(await reader.readline())
        except (OSError, TimeoutError, ValueError, frames.BadFrame):
            raise AgentUnavailable from None
        if not answer.get("ok"):
            raise AgentRefused(str(answer.get("code", "")), str(answer.get("message", "")))
        yield Connection(answer, reader, writer)
    finally:
        writer.close()


async def ask(verb: str, container_id: str, user_id: int, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """For verbs that are answered in the first line."""
    async with opened(verb, container_id, user_id, args) as connection:
        return connection.answer


def isolation(user: User, container: Container) -> dict[str, Any]:
    """For the views.  The caller has authorised the user.  Raises AgentUnavailable, AgentRefused."""
    answer: dict[str, Any] = async_to_sync(ask)("isolation", container.id, user.pk)
    return dict(answer["report"])


def log_lines(user: User, container: Container) -> list[list[Any]]:
    """The last 10,000 lines.  The caller has authorised the user.  Raises AgentUnavailable, AgentRefused."""

    async def collect() -> list[list[Any]]:
        lines: list[list[Any]] = []
        async with opened("logs", container.id, user.pk, {"tail": 10_000}) as connection:
            while True:
                kind, payload = await frames.read_frame(connection.reader)
                if kind == frames.END:
                    return lines
                if kind == frames.DATA:
                    lines += json.loads(payload)

    found: list[list[Any]] = async_to_sync(collect)()
    return found
