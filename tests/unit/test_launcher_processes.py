"""The processes of a node: who runs as whom, in which order, and how each is known to be ready."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from launcher.processes import answers_200, children, listens
from launcher.settings import load
from launcher.supervisor import Child


def processes(**environment: str) -> dict[str, Child]:
    return {child.name: child for child in children(load(environment, {}), Path("/code"))}


def test_only_worker_and_agent_are_root() -> None:
    users = {name: child.user for name, child in processes().items()}
    assert users == {"redis": "slipway", "web": "slipway", "worker": "root", "beat": "slipway", "agent": "root"}


def test_redis_is_first_to_start_and_last_to_stop() -> None:
    found = processes()
    redis = found.pop("redis")
    assert all(redis.start_stage < child.start_stage for child in found.values())
    assert all(redis.stop_stage > child.stop_stage for child in found.values())
    assert found["web"].stop_stage < found["worker"].stop_stage, "no new work comes in while the worker ends"


def test_nobody_waits_for_beat() -> None:
    found = processes()
    assert found["beat"].start_stage > max(found[name].start_stage for name in ("web", "worker", "agent"))
    assert found["beat"].probe is None


def test_the_private_redis_listens_on_no_port() -> None:
    command = list(processes(SLIPWAY_HOME="/srv/x")["redis"].command)
    assert command[command.index("--port") + 1] == "0"
    assert command[command.index("--unixsocket") + 1] == "/srv/x/redis/redis.sock"


def test_with_a_redis_of_ones_own_none_is_started() -> None:
    found = processes(SLIPWAY_REDIS_URL="redis://cache:6379")
    assert "redis" not in found
    assert found["worker"].environment["SLIPWAY_REDIS_URL"] == "redis://cache:6379"


def test_the_worker_takes_its_nodes_queue_and_beats() -> None:
    command = list(processes(SLIPWAY_NODE="n7")["worker"].command)
    assert command[command.index("-Q") + 1] == "node.n7,beat"
    assert command[command.index("--pool") + 1] == "threads"


def test_the_web_listens_where_it_is_told() -> None:
    command = list(processes(SLIPWAY_LISTEN="::1", SLIPWAY_PORT="8123")["web"].command)
    assert command[command.index("--host") + 1] == "::1"
    assert command[command.index("--port") + 1] == "8123"
    assert command[command.index("--ws") + 1] == "websockets-sansio"


def test_what_is_muted_and_what_is_not() -> None:
    found = processes()
    redis, worker = found["redis"].mute, found["worker"].mute
    assert redis is not None
    assert worker is not None
    assert redis.search("1:M 23 Nov # Server initialized")
    assert not redis.search("1:M 23 Nov # Can't open the append-only file: No space left on device")
    assert worker.search("[2026: INFO/MainProcess] Task console.operations.tasks.sweep[1] succeeded in 0.01s")
    assert not worker.search(
        "[2026: ERROR/MainProcess] Task console.operations.tasks.run[1] raised unexpected: OSError()"
    )
    assert processes(SLIPWAY_LOG="DEBUG")["worker"].mute is None


@pytest.mark.parametrize(("status", "expected"), [("200 OK", True), ("503 Service Unavailable", False)])
async def test_ready_means_200(status: str, expected: bool) -> None:
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await answers_200("127.0.0.1", port, "/healthz/")() is expected
    assert asked[0].startswith(b"GET /healthz/ HTTP/1.1\r\nHost: localhost\r\n")
    assert not await answers_200("127.0.0.1", port, "/healthz/")(), "nobody listens any more"


async def test_a_socket_that_nobody_listens_on_is_not_ready(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    assert not await listens(path)()
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
    assert await listens(path)()
    server.close()
    await server.wait_closed()
    assert not await listens(path)(), "the file of a dead agent stays behind"
