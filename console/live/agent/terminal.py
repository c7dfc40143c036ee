"""A terminal in a container: the pseudo-terminal's bytes both ways, its size, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from asgiref.sync import sync_to_async

from console.live import frames
from console.live.agent.answers import answer
from runtime.api import Engine, ExecSession, ExecSpec
from runtime.errors import InvalidSpec

SHELLS = (("/bin/bash", "-i"), ("/bin/sh", "-i"))
CHUNK = 65_536
EXIT_S = 5.0


def _size(args: dict[str, Any]) -> tuple[int, int]:
    def within(value: object, low: int, high: int, default: int) -> int:
        return min(high, max(low, value)) if isinstance(value, int) else default

    return within(args.get("columns"), 2, 1000, 80), within(args.get("rows"), 1, 1000, 24)


def _open(engine: Engine, container: str, args: dict[str, Any]) -> ExecSession:
    """The command asked for, else the first shell that the image has."""
    columns, rows = _size(args)
    command = args.get("command")
    asked = isinstance(command, list) and command and all(isinstance(word, str) for word in command)
    choices = [tuple(command)] if asked and isinstance(command, list) else list(SHELLS)
    for number, words in enumerate(choices):
        try:
            return engine.exec(container, ExecSpec(words, terminal=True, columns=columns, rows=rows))
        except InvalidSpec:
            if number + 1 == len(choices):
                raise
    raise AssertionError("there is at least one shell to try")


async def run_terminal(
    engine: Engine, container: str, args: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Until the process ends or the client leaves; then nothing of it is left.  Raises RuntimeFault before it began."""
    session = await sync_to_async(_open, thread_sensitive=False)(engine, container, args)
    try:
        await answer(writer)
        output = asyncio.ensure_future(_output(session, writer))
        entered = asyncio.ensure_future(_input(session, reader))
        done, pending = await asyncio.wait([output, entered], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if output in done:
            code = await asyncio.to_thread(session.wait, EXIT_S)
            writer.write(frames.control(exit=code) + frames.frame(frames.END))
            await writer.drain()
    finally:
        await asyncio.to_thread(session.close)


async def _output(session: ExecSession, writer: asyncio.StreamWriter) -> None:
    """Reads only as fast as the client takes it, so a flood waits in the pseudo-terminal and the program with it."""
    descriptor = session.stdout.fileno()
    os.set_blocking(descriptor, False)
    loop = asyncio.get_running_loop()
    while True:
        await _readable(loop, descriptor)
        try:
            content = os.read(descriptor, CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            return  # EIO: the last process on the terminal is gone
        if not content:
            return
        writer.write(frames.frame(frames.DATA, content))
        await writer.drain()


async def _readable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def _input(session: ExecSession, reader: asyncio.StreamReader) -> None:
    descriptor = session.stdin.fileno()
    while True:
        try:
            kind, payload = await frames.read_frame(reader)
        except asyncio.IncompleteReadError:
            return
        if kind == frames.END:
            return
        if kind == frames.CONTROL:
            size = frames.parse_line(payload).get("resize")
            if isinstance(size, list) and len(size) == 2:
                session.resize(*_size({"columns": size[0], "rows": size[1]}))
            continue
        await _write_all(descriptor, payload)


async def _write_all(descriptor: int, payload: bytes) -> None:
    """A program that does not read its input holds up only its own terminal."""
    view = memoryview(payload)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await asyncio.sleep(0.01)
        except OSError:
            return
