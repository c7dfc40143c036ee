"""Telling open pages that something changed."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from django.db.models import F

from console.core.models import EventSequence

log = logging.getLogger(__name__)


def announce(tenant_id: str | None, kind: str, id: str, **fields: Any) -> None:
    """After the commit, send ``kind`` and ``id`` to the tenant's group with the tenant's next number.

    The number is taken in the deed's own transaction, so a page that fetches after an event sees at least that deed.
    """
    if tenant_id is None:
        return
    event = {"kind": kind, "id": id, "seq": _next(tenant_id), **fields}
    transaction.on_commit(partial(_send, f"tenant.{tenant_id}", event), robust=True)


def sequence(tenant_id: str) -> int:
    value = EventSequence.objects.filter(tenant_id=tenant_id).values_list("value", flat=True).first()
    return value or 0


def _next(tenant_id: str) -> int:
    with transaction.atomic():
        EventSequence.objects.get_or_create(tenant_id=tenant_id)
        EventSequence.objects.filter(tenant_id=tenant_id).update(value=F("value") + 1)
        return EventSequence.objects.values_list("value", flat=True).get(tenant_id=tenant_id)


def _send(group: str, event: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(group, {"type": "tenant.event", "event": event})
    except Exception:  # the deed is done; a page that misses the number asks for a new snapshot
        log.warning("event %s of %s was not sent", event["seq"], group, exc_info=True)
