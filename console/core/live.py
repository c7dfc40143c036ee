"""Telling open pages that something changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import connection, transaction
from redis.exceptions import RedisError

from console.core.models import EventSequence

log = logging.getLogger(__name__)
SEND_WITHIN_S = 1.0


def announce(tenant_id: str | None, kind: str, id: str, **fields: Any) -> None:
    """After the commit, send ``kind`` and ``id`` to the tenant's group with the tenant's next number.

    The number is taken in the deed's own transaction, so a page that fetches after an event sees at least that deed.
    """
    if tenant_id is None:
        return
    event = {"kind": kind, "id": id, "seq": _next(tenant_id), **fields}
    transaction.on_commit(partial(_send, f"tenant.{tenant_id}", event), robust=True)


def access_group(user_id: int) -> str:
    """The group of everything that one person has open."""
    return f"user.{user_id}"


def access_changed(user_id: int) -> None:
    """After the commit, every open page of that person is authorised anew.  What is not delivered, the next regular check finds."""
    transaction.on_commit(partial(_deliver, access_group(user_id), {"type": "access.changed"}), robust=True)


def sequence(tenant_id: str) -> int:
    value = EventSequence.objects.filter(tenant_id=tenant_id).values_list("value", flat=True).first()
    return value or 0


def _next(tenant_id: str) -> int:
    """One statement, which SQLite (3.35) and PostgreSQL share: the row is locked until the deed commits."""
    table = connection.ops.quote_name(EventSequence._meta.db_table)  # noqa: SLF001 -- Django documents _meta
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (tenant_id, value) VALUES (%s, 1)"  # noqa: S608 -- the model's own name
            f" ON CONFLICT (tenant_id) DO UPDATE SET value = {table}.value + 1 RETURNING value",
            [tenant_id],
        )
        return int(cursor.fetchone()[0])


def _send(group: str, event: dict[str, Any]) -> None:
    """The deed is done; a page that misses the number asks for a new snapshot."""
    _deliver(group, {"type": "tenant.event", "event": event})


def _deliver(group: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(_within)(layer.group_send(group, message), SEND_WITHIN_S)
    except (OSError, TimeoutError, RedisError) as error:
        log.warning("%s was not told %s: %r", group, message, error)


async def _within(sending: Awaitable[None], seconds: float) -> None:
    await asyncio.wait_for(sending, seconds)
