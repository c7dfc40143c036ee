"""Deliveries of webhooks: each claimed, tried, and tried again later and later; durable, so a crash delays and loses nothing."""

from __future__ import annotations

import datetime as dt
import logging
import time

from django.db.models import F

from console.core.errors import Refused
from console.core.secrets import decrypt
from console.metering import webhooks
from console.metering.models import Budget, WebhookDelivery
from console.metering.services.budgets import containers

log = logging.getLogger(__name__)
LEASE = dt.timedelta(minutes=2)
FIRST_PAUSE, LONGEST_PAUSE = dt.timedelta(seconds=30), dt.timedelta(hours=1)
MOST_ATTEMPTS = 30
"""About a day."""
AT_ONCE = 20
UNFIT = "The webhook was taken away or changed before this could be told."


def pause(attempts: int) -> dt.timedelta:
    """After so many tries that failed."""
    doubled = FIRST_PAUSE * (1 << min(attempts - 1, 20))
    return min(LONGEST_PAUSE, doubled)


def deliver_due(now: dt.datetime) -> int:
    """What is due, some at a time; returns how many were tried."""
    due = WebhookDelivery.objects.filter(state=WebhookDelivery.State.WAITING, due_at__lte=now)
    tried = 0
    for id in list(due.order_by("due_at").values_list("pk", flat=True)[:AT_ONCE]):
        tried += _try(id, now)
    return tried


def _try(id: str, now: dt.datetime) -> bool:
    """False: somebody else has it.  Whoever dies over it leaves it to be tried again once the lease is over."""
    waiting = WebhookDelivery.objects.filter(pk=id, state=WebhookDelivery.State.WAITING, due_at__lte=now)
    if not waiting.update(due_at=now + LEASE, attempts=F("attempts") + 1):
        return False
    delivery = WebhookDelivery.objects.get(pk=id)
    try:
        _send(delivery)
    except webhooks.Refused as refused:
        _end(delivery, WebhookDelivery.State.GIVEN_UP, error=str(refused))
    except webhooks.Failed as failed:
        _failed(delivery, str(failed), now)
    except Refused as refused:
        _failed(delivery, refused.message, now)
    else:
        _end(delivery, WebhookDelivery.State.DELIVERED, error="", delivered_at=now)
    return True


def _send(delivery: WebhookDelivery) -> None:
    budget = Budget.objects.filter(tenant=delivery.tenant_id).exclude(webhook_url="").first()
    if budget is None:
        raise webhooks.Refused(UNFIT)
    content = delivery.body.encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Slipway",
        "Slipway-Delivery": delivery.pk,
        "Slipway-Signature": webhooks.signature(decrypt(bytes(budget.secret_encrypted)), content, int(time.time())),
    }
    webhooks.send(budget.webhook_url, content, headers, inside=budget.webhook_inside, containers=containers())


def _failed(delivery: WebhookDelivery, why: str, now: dt.datetime) -> None:
    if delivery.attempts >= MOST_ATTEMPTS:
        log.warning("webhook %s is given up after %d tries: %s", delivery.pk, delivery.attempts, why)
        _end(delivery, WebhookDelivery.State.GIVEN_UP, error=why)
        return
    WebhookDelivery.objects.filter(pk=delivery.pk).update(error=why[:200], due_at=now + pause(delivery.attempts))


def _end(
    delivery: WebhookDelivery, state: WebhookDelivery.State, *, error: str, delivered_at: dt.datetime | None = None
) -> None:
    WebhookDelivery.objects.filter(pk=delivery.pk).update(state=state, error=error[:200], delivered_at=delivered_at)
