"""Files out of a container and into it, as tar streams between a pipe, which the engine works at in a thread, and the client's frames.

A client that reads or writes slowly slows its own copy alone, and one that stalls ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO

from console.live import frames
from console.live.agent.answers import answer
from runtime.api import Engine
from runtime.errors import InvalidSpec, LimitExceeded, RuntimeFault

log = logging.getLogger(__name__)
CHUNK = 64 << 10
STALLED_S = 60.0
WHOLE_S = 3600.0
AT_ONCE, OF_A_TENANT = 8, 3
"""On the node: each is a thread, for as long as its client takes its time."""
WAIT_S = 5.0


class Copies:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(AT_ONCE)
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(OF_A_TENANT))

    async def out(self, container: str, args: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """``args``: ``path``.  Raises RuntimeFault before the first frame; a copy that breaks off later has no END."""
        path = _path(args)
        async with self._turn(container), asyncio.timeout(WHOLE_S):
            outer, inner = os.pipe()

            def work() -> None:
                with os.fdopen(inner, "wb") as target:
                    self._engine.files.copy_out(container, path, target)

            async with _beside(work) as working, _reading(outer) as source:
                content = await source.read(CHUNK)
                if not content:
                    await working
                await answer(writer)
                while content:
                    await _send(writer, frames.frame(frames.DATA, content))
                    content = await source.read(CHUNK)
                try:
                    await working
                except (RuntimeFault, OSError) as fault:
                    log.warning("a copy out of %s broke off: %s", container, fault)
                    return
                await _send(writer, frames.frame(frames.END))

    async def into(
        self, container: str, args: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """``args``: ``path``, a folder.  After the answer the client sends the archive in frames, and is told the outcome in one of control."""
        path = _path(args)
        async with self._turn(container), asyncio.timeout(WHOLE_S):
            inner, outer = os.pipe()

            def work() -> None:
                with os.fdopen(inner, "rb") as source:
                    self._engine.files.copy_in(container, path, source)
                    while source.read(CHUNK):  # what follows the archive's end
                        pass

            async with _beside(work) as working:
                await answer(writer)
                await _take(reader, outer)
                try:
                    await working
                except RuntimeFault as fault:
                    await _send(writer, frames.control(code=fault.code, message=str(fault)))
                else:
                    await _send(writer, frames.control(done=True))

    @contextlib.asynccontextmanager
    async def _turn(self, container: str) -> AsyncIterator[None]:
        """Raises NotFound, LimitExceeded."""
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(WAIT_S):
                    await held.enter_async_context(self._turns[self._engine.spec(container).tenant])
                    await held.enter_async_context(self._free)
            except TimeoutError:
                raise LimitExceeded("The node is copying other files.", hint="Try again in a few seconds.") from None
            yield


def _path(args: dict[str, Any]) -> str:
    path = args.get("path")
    if not isinstance(path, str) or not path:
        raise InvalidSpec("There is no path.", field="path")
    return path


@contextlib.asynccontextmanager
async def _beside(work: Callable[[], None]) -> AsyncIterator[asyncio.Future[None]]:
    """Its pipe is closed by the time it is waited for, so it ends."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        yield working
    finally:
        await asyncio.wait([working])
        working.exception()


@contextlib.asynccontextmanager
async def _reading(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    source = asyncio.StreamReader(limit=CHUNK)
    pipe: BinaryIO = os.fdopen(descriptor, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(source), pipe)
    try:
        yield source
    finally:
        transport.close()


async def _send(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(content)
    async with asyncio.timeout(STALLED_S):
        await writer.drain()


async def _take(reader: asyncio.StreamReader, descriptor: int) -> None:
    """Frames of data to their END, each written before the next is read; what nobody reads any more is passed over.

    Raises IncompleteReadError when the client leaves, and then the archive ends early.
    """
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as pipe:
        read = True
        while True:
            async with asyncio.timeout(STALLED_S):
                kind, payload = await frames.read_frame(reader)
            if kind == frames.END:
                return
            if kind == frames.DATA and read:
                try:
                    await asyncio.to_thread(pipe.write, payload)
                except BrokenPipeError:
                    read = False
