"""What the agent says to a connection first: a line of JSON, after which a verb has the connection to itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any


async def answer(writer: asyncio.StreamWriter, **fields: Any) -> None:
    writer.write(json.dumps({"ok": True, **fields}).encode() + b"\n")
    await writer.drain()


async def refuse(writer: asyncio.StreamWriter, code: str, message: str) -> None:
    writer.write(json.dumps({"ok": False, "code": code, "message": message}).encode() + b"\n")
    await writer.drain()
