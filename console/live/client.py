"""The web process's side of the agent's socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from asgiref.sync import async_to_sync
from django.conf import settings
from django.utils.translation import gettext as _

from console.accounts.models import Tenant, User
from console.core.sentences import told
from console.live import frames, tickets
from console.workloads.models import Container

CONNECT_S = 3.0
ANSWER_BYTES = 16 << 20
STREAM_BYTES = 128 << 10
"""What this process holds of a stream that its browser does not take: more would only be shown later."""
COPY_BYTES = 64 << 10
ANSWER_S = 20.0
QUERY_S = 60.0
"""Of silence in an answer in SQL: longer than the agent gives a question, so that it is the agent who tells that one takes too long."""
NOBODY = 0
"""A program's ticket: no user has this number."""
STREAMS = frozenset({"logs", "exec"})


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
            limit = STREAM_BYTES if verb in STREAMS else ANSWER_BYTES
            reader, writer = await asyncio.open_unix_connection(settings.AGENT_SOCKET, limit=limit)
    except (OSError, TimeoutError):
        raise AgentUnavailable from None
    try:
        writer.write(_request(verb, container_id, user_id, args))
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = frames.parse_line(await reader.readline())
        except (OSError, TimeoutError, ValueError, frames.BadFrame):
            raise AgentUnavailable from None
        _check(answer)
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


def top(user: User, container: Container) -> list[dict[str, Any]]:
    """The fields of :class:`runtime.api.ProcessRow`, with ``cpu_s``.  Authorised and refused likewise."""
    answer: dict[str, Any] = async_to_sync(ask)("top", container.id, user.pk)
    return [{**row, "cpu_s": row["cpu_ns"] / 1e9} for row in answer["processes"]]


def copy_out(user: User, container: Container, path: str) -> Iterator[bytes]:
    """A path of it as a tar archive, in pieces.

    The caller has authorised the user.  Raises AgentUnavailable, also in the middle, and AgentRefused before the first piece.
    """
    return _data(*_streaming("copy_out", container.id, user.pk, {"path": path}))


def copy_in(user: User, container: Container, path: str, archive: bytes) -> None:
    """Unpack a tar archive into a folder of it.

    The caller has authorised the user.  Raises AgentUnavailable, AgentRefused; then part of it may be there.
    """
    connection, stream = _streaming("copy_in", container.id, user.pk, {"path": path})
    with connection, stream:
        try:
            for start in range(0, len(archive), COPY_BYTES):
                connection.sendall(frames.frame(frames.DATA, archive[start : start + COPY_BYTES]))
            connection.sendall(frames.frame(frames.END))
            _kind, payload = frames.read_frame_from(stream)
            outcome = frames.parse_line(payload)
        except (OSError, frames.BadFrame):
            raise AgentUnavailable from None
    _check({"ok": outcome.get("done"), **outcome})


def counters(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """Container's id -> the fields of :class:`runtime.api.Counters`, read now, of all that the tenant runs.

    The caller has authorised whoever asks.  Raises AgentUnavailable, AgentRefused.
    """
    answer: dict[str, Any] = async_to_sync(ask)("counters", tenant.id, NOBODY)
    return dict(answer["counters"])


def log_lines(user: User, container: Container) -> Iterator[list[Any]]:
    """All lines that the node still has, as they arrive: the log is never whole in memory.

    The caller has authorised the user.  Raises AgentUnavailable, AgentRefused, before the first line.
    """
    connection, stream = _streaming("logs", container.id, user.pk, {"tail": None})
    return (line for payload in _data(connection, stream) for line in json.loads(payload))


def query(user: User, tenant: Tenant, args: Mapping[str, Any]) -> Generator[bytes]:
    """The answer to a question to the tenant's data set, in pieces; see :mod:`console.live.agent.queries`.

    The caller has authorised the user.  Raises AgentUnavailable, also in the middle, and AgentRefused before the first piece.
    """
    connection, stream = _streaming("query", tenant.id, user.pk, args)
    connection.settimeout(QUERY_S)
    return _data(connection, stream)


def _streaming(verb: str, subject: str, user_id: int, args: Mapping[str, Any]) -> tuple[socket.socket, BinaryIO]:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_S)
    try:
        try:
            connection.connect(settings.AGENT_SOCKET)
            connection.sendall(_request(verb, subject, user_id, args))
            stream = connection.makefile("rb")
            answer = frames.parse_line(stream.readline())
        except (OSError, frames.BadFrame):
            raise AgentUnavailable from None
        _check(answer)
    except BaseException:
        connection.close()
        raise
    return connection, stream


def _data(connection: socket.socket, stream: BinaryIO) -> Generator[bytes]:
    with connection, stream:
        while True:
            try:
                kind, payload = frames.read_frame_from(stream)
            except (OSError, frames.BadFrame):
                raise AgentUnavailable from None
            if kind == frames.END:
                return
            if kind == frames.DATA:
                yield payload


def _request(verb: str, container_id: str, user_id: int, args: Mapping[str, Any] | None) -> bytes:
    request = {"ticket": tickets.sign(user_id, container_id, verb), "args": dict(args or {})}
    return json.dumps(request).encode() + b"\n"


def _check(answer: Mapping[str, Any]) -> None:
    if not answer.get("ok"):
        raise AgentRefused(str(answer.get("code", "")), told(str(answer.get("message", ""))))
