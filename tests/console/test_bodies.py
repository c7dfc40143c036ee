"""A request reaches a view with its whole body, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from console.core.bodies import WholeBody

LIMIT = 10


def ask(messages: Iterable[dict[str, Any]]) -> tuple[list[bytes], list[dict[str, Any]]]:
    """What the application was given, and what the client was sent."""
    given: list[bytes] = []
    sent: list[dict[str, Any]] = []
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    async def application(_scope: Any, receive: Any, _send: Any) -> None:
        first = await receive()
        assert not first["more_body"]
        given.append(first["body"])
        assert (await receive())["type"] == "http.disconnect"

    asyncio.run(WholeBody(application, LIMIT)({"type": "http"}, receive, send))
    return given, sent


def part(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


def test_a_body_in_parts_arrives_as_one() -> None:
    assert ask([part(b"12345", True), part(b"", True), part(b"67890", False), GONE]) == ([b"1234567890"], [])


def test_no_body_is_an_empty_one() -> None:
    assert ask([{"type": "http.request"}, GONE]) == ([b""], [])


def test_one_byte_over_the_limit_is_refused_before_its_end() -> None:
    given, sent = ask([part(b"1234567890", True), part(b"1", True)])
    assert given == []
    assert sent[0]["status"] == 413
    assert b"larger" in sent[1]["body"]


def test_a_client_that_leaves_reaches_no_view() -> None:
    assert ask([part(b"1", True), GONE]) == ([], [])
