"""A container's log to one reader: the tail first, then what comes, in batches; a reader slower than the log skips, and is told."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from itertools import islice
from typing import Any

from console.live import frames
from runtime.api import Engine
from runtime.telemetry.log import Reader, parse

DEFAULT_LINES = 500
POLL_S = 0.1
BATCH_LINES = 500
BEHIND_BYTES = 4 << 20
LATE_S = 3.0
LATE_BYTES = 64 << 10
"""So much unread while what is shown is older than LATE_S: the reader does not keep up, and old lines are not what it wants."""
FRESH_BYTES = 128 << 10
LINE_LIMIT = 16_384

Row = list[str | bool]


def _rows(raw: list[bytes]) -> list[Row]:
    parsed = (parse(line) for line in raw)
    return [[line.at, line.stream, line.text[:LINE_LIMIT], line.partial] for line in parsed if line is not None]


def _late(rows: list[Row]) -> bool:
    try:
        return bool(rows) and time.time() - datetime.fromisoformat(str(rows[-1][0])).timestamp() > LATE_S
    except ValueError:  # not a time
        return False


async def _send(writer: asyncio.StreamWriter, rows: list[Row]) -> None:
    for start in range(0, len(rows), BATCH_LINES):
        writer.write(frames.frame(frames.DATA, json.dumps(rows[start : start + BATCH_LINES]).encode()))
        await writer.drain()


async def _send_whole(writer: asyncio.StreamWriter, log: Reader) -> None:
    lines = log.whole()
    while batch := await asyncio.to_thread(lambda: list(islice(lines, BATCH_LINES))):
        _tell_lost(writer, log)
        await _send(writer, _rows(batch))


def _tell_lost(writer: asyncio.StreamWriter, log: Reader) -> None:
    if lost := log.lost():
        writer.write(frames.control(dropped=lost))


async def stream_logs(
    engine: Engine, container: str, args: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Until the reader leaves, or, without ``follow``, until the end.  Frames: D with a JSON list of rows, C with ``dropped``, E.

    ``tail`` is a number of lines, or null for all that the node still has.
    """
    wanted = args.get("tail", DEFAULT_LINES)
    log = await asyncio.to_thread(Reader, engine.log_file(container))
    try:
        if wanted is None:
            await _send_whole(writer, log)
        else:
            lines = max(0, wanted) if isinstance(wanted, int) else DEFAULT_LINES
            await _send(writer, _rows(await asyncio.to_thread(log.last, lines)))
        left = asyncio.ensure_future(reader.read(1))
        try:
            while args.get("follow") and not left.done():
                raw = await asyncio.to_thread(log.fresh, FRESH_BYTES)
                rows = _rows(raw)
                _tell_lost(writer, log)
                await _send(writer, rows)
                if log.behind() > (LATE_BYTES if _late(rows) else BEHIND_BYTES):
                    writer.write(frames.control(dropped=log.skip_to_end()))
                if not raw:
                    await asyncio.wait([left], timeout=POLL_S)
        finally:
            left.cancel()
        writer.write(frames.frame(frames.END))
        await writer.drain()
    finally:
        log.close()
