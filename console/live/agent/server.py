"""The agent's socket: one-time tickets in, answers, logs and terminals out.

A connection is one verb.  What a browser does not read stays in its own connection's buffers: writing waits for it, and so does
the reading of its terminal; nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings

from console.live import frames
from console.live.agent.answers import answer, refuse
from console.live.agent.copies import Copies
from console.live.agent.history import History
from console.live.agent.logs import stream_logs
from console.live.agent.queries import Queries
from console.live.agent.terminal import run_terminal
from console.live.tickets import BadTicket, Ticket, Verifier
from runtime.api import Engine, State
from runtime.errors import RuntimeFault

log = logging.getLogger(__name__)
REQUEST_S = 5.0
MOST_PROCESSES = 2000
"""Told of one container."""
PEER = struct.Struct("3i")
WEB_USER = "slipway"
Verb = Callable[[Ticket, dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    def __init__(self, engine: Engine, history: History) -> None:
        self._engine = engine
        self._history = history
        self._verifier = Verifier()
        self._queries = Queries()
        self._copies = Copies(engine)
        self._admitted = {0, os.getuid(), *_web_uid()}
        self._verbs: dict[str, Verb] = {
            "ping": self._ping,
            "history": self._send_history,
            "isolation": self._isolation,
            "top": self._top,
            "copy_out": self._copy_out,
            "copy_in": self._copy_in,
            "counters": self._counters,
            "query": self._query,
            "logs": self._logs,
            "exec": self._exec,
        }

    async def listen(self, path: Path) -> asyncio.Server:
        """Takes the socket's place in one step.  Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, temporary, limit=frames.LINE_LIMIT)
        with contextlib.suppress(KeyError):
            os.chown(temporary, 0, grp.getgrnam(WEB_USER).gr_gid)
        temporary.chmod(0o660)
        os.replace(temporary, path)
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, frames.BadFrame):
            log.debug("a client left or spoke garbage")
        except Exception:
            log.exception("a connection failed")
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._admits(writer.get_extra_info("socket")):
            await refuse(writer, "not_admitted", "This socket is the web process's.")
            return
        try:
            async with asyncio.timeout(REQUEST_S):
                request = frames.parse_line(await reader.readline())
            ticket = self._verifier.verify(str(request.get("ticket", "")))
        except BadTicket as bad:
            await refuse(writer, "bad_ticket", f"The ticket is {bad}.")
            return
        except (frames.BadFrame, ValueError, TimeoutError):
            await refuse(writer, "bad_request", "The request is not one line of JSON with a ticket.")
            return
        args = request.get("args")
        try:
            await self._verbs[ticket.verb](ticket, args if isinstance(args, dict) else {}, reader, writer)
        except RuntimeFault as fault:
            await refuse(writer, fault.code, str(fault))

    def _admits(self, connection: socket.socket) -> bool:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
        return PEER.unpack(credentials)[1] in self._admitted

    # verbs -----------------------------------------------------------------------------------------------

    async def _ping(
        self, _t: Ticket, _a: dict[str, Any], _r: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await answer(writer)

    async def _send_history(
        self, ticket: Ticket, args: dict[str, Any], _r: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        since = args.get("since", 0)
        track = self._history.tracks.get(ticket.container)
        samples = track.ring.since(float(since) if isinstance(since, int | float) else 0.0) if track else {}
        await answer(writer, samples=samples)

    async def _isolation(
        self, ticket: Ticket, _a: dict[str, Any], _r: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        report = await sync_to_async(self._engine.isolation, thread_sensitive=False)(ticket.container)
        await answer(writer, report=asdict(report) | {"cgroup_limits": dict(report.cgroup_limits)})

    async def _top(
        self, ticket: Ticket, _a: dict[str, Any], _r: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        rows = await sync_to_async(self._engine.controls.top, thread_sensitive=False)(ticket.container)
        await answer(writer, processes=[asdict(row) for row in rows[:MOST_PROCESSES]])

    async def _copy_out(
        self, ticket: Ticket, args: dict[str, Any], _r: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._copies.out(ticket.container, args, writer)

    async def _copy_in(
        self, ticket: Ticket, args: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._copies.into(ticket.container, args, reader, writer)

    async def _counters(
        self, ticket: Ticket, _a: dict[str, Any], _r: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await answer(
            writer, counters=await sync_to_async(self._read_counters, thread_sensitive=False)(ticket.container)
        )

    def _read_counters(self, tenant: str) -> dict[str, dict[str, Any]]:
        ids = [one.id for one in self._engine.list(tenant=tenant) if one.state is State.RUNNING]
        return {id: asdict(counters) for id, counters in self._engine.counters(ids).items()}

    async def _query(
        self, ticket: Ticket, args: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._queries.run(ticket.container, args, reader, writer)

    async def _logs(
        self, ticket: Ticket, args: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._engine.spec(ticket.container)
        await answer(writer)
        await stream_logs(self._engine, ticket.container, args, reader, writer)

    async def _exec(
        self, ticket: Ticket, args: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await run_terminal(self._engine, ticket.container, args, reader, writer)


def _web_uid() -> set[int]:
    try:
        return {pwd.getpwnam(WEB_USER).pw_uid}
    except KeyError:
        return set()


def socket_path() -> Path:
    return Path(settings.AGENT_SOCKET)
