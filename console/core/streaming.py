"""Answers that are longer than memory should be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice

from asgiref.sync import sync_to_async

BATCH = 200


async def streamed(chunks: Iterator[str]) -> AsyncIterator[str]:
    """A synchronous stream for an asynchronous server: a batch at a time, each in a thread."""
    while batch := await sync_to_async(lambda: list(islice(chunks, BATCH)))():
        yield "".join(batch)
