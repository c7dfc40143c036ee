"""The agent meters from its first second, whether or not the database is there."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from console.live.agent import main
from console.live.agent.truth import Truth


async def test_metering_begins_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    metering, adopting = asyncio.Event(), asyncio.Event()

    class Server:
        def __init__(self, *_: object) -> None:
            pass

        async def listen(self, _path: object) -> SimpleNamespace:
            return SimpleNamespace(close=lambda: None)

    async def away(_truth: Truth) -> None:
        adopting.set()
        await asyncio.Event().wait()

    async def meter(_truth: Truth) -> None:
        metering.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(main, "Server", Server)
    monkeypatch.setattr(main, "_adopt", away)
    monkeypatch.setattr(Truth, "meter", meter)
    serving = asyncio.create_task(main.serve())
    async with asyncio.timeout(20):
        await adopting.wait()
        await metering.wait()
    serving.cancel()


@pytest.mark.parametrize("hangs", [False, True])
async def test_looks_go_on_while_nothing_is_delivered(monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    """A server that was stopped, or a network that swallows its answers, hangs: no look waits for it, and one delivery alone."""
    looks: list[str] = []
    deliveries: list[str] = []
    back = threading.Event()
    truth = Truth.__new__(Truth)

    def deliver(_truth: Truth) -> None:
        deliveries.append("delivery")
        if hangs:
            assert back.wait(30)
        raise ConnectionError("the database is away")

    monkeypatch.setattr("console.live.agent.truth.seconds_to_next", lambda *_: 0)
    monkeypatch.setattr(Truth, "_collect", lambda _truth: looks.append("look"))
    monkeypatch.setattr(Truth, "_deliver", deliver)
    task = asyncio.create_task(truth.meter())
    try:
        async with asyncio.timeout(20):
            while len(looks) < 3:
                await asyncio.sleep(0.01)
            assert not hangs or len(deliveries) == 1
            back.set()
            while len(deliveries) < 3:
                await asyncio.sleep(0.01)
    finally:
        back.set()
        task.cancel()


async def test_the_database_is_asked_by_few_threads_of_many() -> None:
    """Each keeps its connection: after a hundred terminals and copies at once there were as many, which is all that PostgreSQL has."""
    loop, many = asyncio.get_running_loop(), 32
    with ThreadPoolExecutor(many) as pool:
        loop.set_default_executor(pool)
        together = threading.Barrier(many, timeout=30)
        await asyncio.gather(*(asyncio.to_thread(together.wait) for _ in range(many)))
        asking: set[int] = set()
        truth = Truth.__new__(Truth)
        for _ in range(2 * many):
            await truth._guarded(lambda: asking.add(threading.get_ident()))
        assert 1 <= len(asking) <= 4
