"""Frames of the agent's socket: one byte of type, four of length (big-endian), the payload."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, BinaryIO

HEADER = struct.Struct(">cI")
DATA, CONTROL, END = b"D", b"C", b"E"
LARGEST = 1 << 20
LINE_LIMIT = 64 << 10


class BadFrame(Exception):
    """The other side does not speak this protocol."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


def control(**fields: Any) -> bytes:
    return frame(CONTROL, json.dumps(fields).encode())


async def read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Raises BadFrame, asyncio.IncompleteReadError at the end."""
    kind, length = _header(await reader.readexactly(HEADER.size))
    return kind, await reader.readexactly(length)


def read_frame_from(stream: BinaryIO) -> tuple[bytes, bytes]:
    """The same from a blocking stream.  Raises BadFrame, also when it ends within a frame."""
    kind, length = _header(stream.read(HEADER.size))
    payload = stream.read(length)
    if len(payload) < length:
        raise BadFrame
    return kind, payload


def _header(content: bytes) -> tuple[bytes, int]:
    kind, length = HEADER.unpack(content) if len(content) == HEADER.size else (b"", 0)
    if kind not in {DATA, CONTROL, END} or length > LARGEST:
        raise BadFrame
    return kind, length


def parse_line(line: bytes) -> dict[str, Any]:
    """Raises BadFrame."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadFrame
    return value
