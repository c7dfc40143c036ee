"""The agent's socket, for real, over the fake engine: who gets in, what it answers, and that garbage ends only its own connection."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.accounts.models import User
from console.live import client, frames
from console.live.agent.history import History, Ring, rates
from console.live.agent.server import Server
from console.live.tickets import sign
from console.workloads.models import Container
from runtime.api import ContainerSpec, Counters
from runtime.engines.fake.engine import FakeEngine
from runtime.home import Home


@pytest.fixture
async def agent(tmp_path: Path, settings: object) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(Home(tmp_path, "tfake"))
    image = engine.build("busybox")
    engine.create(ContainerSpec("cfirst", "tenant1", "first", image.id, command=("sleep", "1")))
    engine.start("cfirst")
    settings.AGENT_SOCKET = str(tmp_path / "agent.sock")  # type: ignore[attr-defined]
    history = History()
    history.follow("cfirst", "tenant1", 1)
    history.add("cfirst", engine.counters(["cfirst"])["cfirst"])
    server = await Server(engine, history).listen(tmp_path / "agent.sock")
    yield engine
    server.close()


async def raw(settings: object, line: bytes) -> dict[str, object]:
    reader, writer = await asyncio.open_unix_connection(settings.AGENT_SOCKET)  # type: ignore[attr-defined]
    writer.write(line)
    answer = json.loads(await reader.readline())
    assert await reader.read() == b""
    writer.close()
    return dict(answer)


async def test_history_and_isolation(agent: FakeEngine) -> None:
    samples = (await client.ask("history", "cfirst", 1))["samples"]
    assert len(samples["t"]) == 1
    assert samples["memory"] == [8 << 20]
    assert (await client.ask("isolation", "cfirst", 1))["report"]["seccomp"] is True


async def test_logs_come_with_their_end(agent: FakeEngine) -> None:
    async with client.opened("logs", "cfirst", 1, {"tail": 10}) as connection:
        kind, payload = await frames.read_frame(connection.reader)
        assert kind == frames.DATA
        assert "started" in json.loads(payload)[0][2]
        assert (await frames.read_frame(connection.reader))[0] == frames.END


async def test_a_download_has_every_line(agent: FakeEngine) -> None:
    for number in range(12_000):
        agent._say("cfirst", f"line {number}")
    lines = await asyncio.to_thread(lambda: list(client.log_lines(User(pk=1), Container(id="cfirst"))))
    assert [line[2] for line in lines][-12_000:] == [f"line {number}" for number in range(12_000)]


async def test_a_download_of_nothing_that_is_there_is_refused(agent: FakeEngine) -> None:
    with pytest.raises(client.AgentRefused, match="no such container"):
        await asyncio.to_thread(client.log_lines, User(pk=1), Container(id="cnobody"))


@pytest.mark.parametrize("at", ["2026-01-02T03:04:05.123456789+08:00", "no-time"])
async def test_a_reader_far_behind_in_time_skips_to_what_is_new(agent: FakeEngine, at: str) -> None:
    """A megabyte of old lines is no backlog in bytes; whoever follows wants what happens now, and is told what was left out."""
    async with client.opened("logs", "cfirst", 1, {"tail": 0, "follow": True}) as connection:
        await asyncio.sleep(0.2)
        with agent.log_file("cfirst").open("ab") as log:
            log.write(b"".join(f"{at} stdout F old {number}\n".encode() for number in range(20_000)))
        old: list[str] = []
        dropped = 0
        async with asyncio.timeout(20):
            while len(old) + (20_000 if dropped else 0) < 20_000:
                kind, payload = await frames.read_frame(connection.reader)
                if kind == frames.CONTROL:
                    dropped += frames.parse_line(payload)["dropped"]
                else:
                    old += [row[2] for row in json.loads(payload)]
            agent._say("cfirst", "now")
            while "now" not in (row := json.loads((await frames.read_frame(connection.reader))[1])[-1][2]):
                old.append(row)
        assert old[:1000] == [f"old {number}" for number in range(1000)]
        assert bool(dropped) is at.startswith("2026")


async def test_a_reader_is_told_of_what_was_replaced_before_it_was_read(agent: FakeEngine) -> None:
    log = agent.log_file("cfirst")
    size = log.stat().st_size
    async with client.opened("logs", "cfirst", 1, {"tail": 0, "follow": True}) as connection:
        await asyncio.sleep(0.2)
        for text in ("lost", "seen"):
            (log.parent / text).write_text(f"no-time stdout F {text}\n")
        os.rename(log.parent / "lost", log)
        os.rename(log.parent / "seen", log)  # sooner than the agent looks again
        async with asyncio.timeout(20):
            told = [await frames.read_frame(connection.reader) for _ in range(2)]
    assert [kind for kind, _ in told] == [frames.CONTROL, frames.DATA]
    assert frames.parse_line(told[0][1])["dropped"] == size
    assert json.loads(told[1][1])[0][2] == "seen"


@pytest.mark.parametrize("verb", ["logs", "exec"])
async def test_a_stream_that_nobody_reads_is_held_by_its_source(tmp_path: Path, settings: object, verb: str) -> None:
    """Megabytes held on the way would be shown long after they were written, and a terminal's Ctrl-C come after them."""
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readline()
        writer.write(b'{"ok": true}\n')
        while True:
            writer.write(frames.frame(frames.DATA, b"y" * 8192))
            await writer.drain()
            written += 8192

    settings.AGENT_SOCKET = str(tmp_path / "flood.sock")  # type: ignore[attr-defined]
    server = await asyncio.start_unix_server(flood, tmp_path / "flood.sock")
    async with client.opened(verb, "cfirst", 1, {}) as connection:
        before = -1
        while written != before:  # until it stands
            before = written
            await asyncio.sleep(0.3)
        assert 0 < written < 2 << 20
        await frames.read_frame(connection.reader)
    server.close()


async def test_a_followed_log_goes_on(agent: FakeEngine) -> None:
    async with client.opened("logs", "cfirst", 1, {"tail": 0, "follow": True}) as connection:
        await asyncio.sleep(0.2)
        agent._say("cfirst", "later")
        async with asyncio.timeout(5):
            assert "later" in json.loads((await frames.read_frame(connection.reader))[1])[0][2]


async def test_a_terminal_answers_and_ends_with_its_code(agent: FakeEngine) -> None:
    async with client.opened("exec", "cfirst", 1, {"columns": 80, "rows": 24}) as connection:
        await connection.send(frames.control(resize=[100, 30]) + frames.frame(frames.DATA, b"echo hello\r"))
        seen, code = b"", None
        async with asyncio.timeout(10):
            while b"\r\nhello\r\n" not in seen:
                seen += (await frames.read_frame(connection.reader))[1]
            await connection.send(frames.frame(frames.DATA, b"exit 3\r"))
            while code is None:
                kind, payload = await frames.read_frame(connection.reader)
                code = json.loads(payload)["exit"] if kind == frames.CONTROL else None
    assert code == 3


async def test_a_flood_waits_for_its_reader(agent: FakeEngine) -> None:
    """Nobody reads: what piles up is bounded by buffers, and another connection is served meanwhile."""
    async with client.opened("exec", "cfirst", 1) as connection:
        await connection.send(frames.frame(frames.DATA, b"yes\r"))
        await asyncio.sleep(0.5)
        async with asyncio.timeout(5):
            assert (await client.ask("ping", "cfirst", 1))["ok"]
            for _ in range(20):
                await frames.read_frame(connection.reader)


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"[]\n", b"garbage\n", b"\xff\xfe\n", b'{"ticket": 5}\n', b"[" * 5000 + b"\n"]
)
async def test_garbage_is_refused_and_the_agent_lives(agent: FakeEngine, settings: object, line: bytes) -> None:
    answer = await raw(settings, line)
    assert answer["ok"] is False
    assert (await client.ask("ping", "cfirst", 1))["ok"]


async def test_a_ticket_is_not_taken_twice(agent: FakeEngine, settings: object) -> None:
    line = json.dumps({"ticket": sign(1, "cfirst", "ping")}).encode() + b"\n"
    assert (await raw(settings, line))["ok"] is True
    assert (await raw(settings, line))["code"] == "bad_ticket"


async def test_faults_of_the_engine_are_sentences(agent: FakeEngine) -> None:
    with pytest.raises(client.AgentRefused) as refused:
        await client.ask("isolation", "cnowhere", 1)
    assert refused.value.code == "not_found"


async def test_a_missing_agent_is_a_sentence(settings: object, tmp_path: Path) -> None:
    settings.AGENT_SOCKET = str(tmp_path / "nobody.sock")  # type: ignore[attr-defined]
    with pytest.raises(client.AgentUnavailable):
        await client.ask("ping", "c", 1)


@pytest.mark.root
async def test_another_user_is_not_admitted(agent: FakeEngine, settings: object) -> None:
    path = Path(settings.AGENT_SOCKET)  # type: ignore[attr-defined]
    path.chmod(0o666)
    for folder in path.parents:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    script = (
        "import os, socket; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        f"s.connect({str(path)!r}); print(s.recv(1000).decode())"
    )
    child = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", script, stdout=asyncio.subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    said, _ = await child.communicate()
    assert json.loads(said)["code"] == "not_admitted"


def counters(seconds: float, cpu: int | None) -> Counters:
    return Counters(at=seconds, boottime_ns=int(seconds * 1e9), cpu_ns=cpu, memory_bytes=5)


def test_rates_are_differences_over_boot_time() -> None:
    assert rates(counters(1, 0), counters(3, 10**9))[0] == 0.5
    assert rates(None, counters(3, 10**9))[0] is None
    assert rates(counters(1, 500), counters(2, 100))[0] is None
    assert rates(counters(1, None), counters(2, 100))[0] is None


def test_the_ring_keeps_the_last_quarter_of_an_hour() -> None:
    ring = Ring()
    for second in range(1000):
        ring.add(float(second), [None, second, 0, 0, 0, 0, 0, 0])
    table = ring.since(0)
    assert len(table["t"]) == 900
    assert table["memory"][0] == 100
    assert table["cpu"][0] is None
    assert len(ring.since(990)["t"]) == 10
