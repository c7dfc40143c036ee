"""Deliveries of webhooks: each claimed, tried, and tried again later and later; durable, so a crash delays and loses nothing."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from functools import partial

from django.db.models import F

from console.core.errors import Refused
from console.core.secrets import decrypt
from console.metering import webhooks
from console.metering.models import Budget, WebhookDelivery
from console.metering.services.budgets import containers
from console.metering.services.turns import in_turn

log = logging.getLogger(__name__)
LEASE = dt.timedelta(minutes=5)
"""Longer than all of one time takes: ``AT_ONCE / SENDERS`` times ``webhooks.WITHIN_S`` and the looking up of names."""
FIRST_PAUSE, LONGEST_PAUSE = dt.timedelta(seconds=30), dt.timedelta(hours=1)
MOST_ATTEMPTS = 30
"""About a day."""
AT_ONCE, SENDERS = 20, 4
UNFIT = "The webhook was taken away or changed before this could be told."
UNFORESEEN = "Something unforeseen went wrong."


def pause(attempts: int) -> dt.timedelta:
    """After so many tries that failed."""
    doubled = FIRST_PAUSE * (1 << min(attempts - 1, 20))
    return min(LONGEST_PAUSE, doubled)


def deliver_due(now: dt.datetime) -> int:
    """What is due, some at a time and each tenant in its turn; returns how many were tried.

    A tenant has one on its way at most, and none more this time once one has failed: a receiver that never answers holds a
    sender for :data:`webhooks.WITHIN_S`, and nobody else's deliveries.
    """
    due = WebhookDelivery.objects.filter(state=WebhookDelivery.State.WAITING, due_at__lte=now)
    tried, failing = 0, set[str]()
    sending: dict[Future[None], WebhookDelivery] = {}
    with ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook") as senders:
        for id, tenant in in_turn(due.order_by("due_at").values_list("pk", "tenant_id")):
            while len(sending) == SENDERS or any(one.tenant_id == tenant for one in sending.values()):
                failing |= _told(sending, now)
            delivery = None if tenant in failing or tried == AT_ONCE else _claim(id, now)
            if delivery is not None:
                sending[_begun(senders, delivery)] = delivery
                tried += 1
        while sending:
            _told(sending, now)
    return tried


def _claim(id: str, now: dt.datetime) -> WebhookDelivery | None:
    """None: somebody else has it.  Whoever dies over it leaves it to be tried again once the lease is over."""
    waiting = WebhookDelivery.objects.filter(pk=id, state=WebhookDelivery.State.WAITING, due_at__lte=now)
    if not waiting.update(due_at=now + LEASE, attempts=F("attempts") + 1):
        return None
    return WebhookDelivery.objects.get(pk=id)


def _begun(senders: Executor, delivery: WebhookDelivery) -> Future[None]:
    """The sender has nothing to do with the database."""
    try:
        return senders.submit(_request(delivery))
    except (webhooks.Refused, Refused) as refused:
        done: Future[None] = Future()
        done.set_exception(refused)
        return done


def _request(delivery: WebhookDelivery) -> Callable[[], None]:
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
    return partial(
        webhooks.send, budget.webhook_url, content, headers, inside=budget.webhook_inside, containers=containers()
    )


def _told(sending: dict[Future[None], WebhookDelivery], now: dt.datetime) -> set[str]:
    """Waits for the next to be done, and writes down how it went; returns whose failed."""
    done, _ = wait(sending, return_when=FIRST_COMPLETED)
    return {delivery.tenant_id for one in done if not _went_well(delivery := sending.pop(one), one, now)}


def _went_well(delivery: WebhookDelivery, sent: Future[None], now: dt.datetime) -> bool:
    try:
        sent.result()
    except webhooks.Refused as refused:
        _end(delivery, WebhookDelivery.State.GIVEN_UP, error=str(refused))
    except webhooks.Failed as failed:
        _failed(delivery, str(failed), now)
    except Refused as refused:
        _failed(delivery, refused.message, now)
    except Exception:
        log.exception("webhook %s failed in an unforeseen way", delivery.pk)
        _failed(delivery, UNFORESEEN, now)
    else:
        _end(delivery, WebhookDelivery.State.DELIVERED, error="", delivered_at=now)
        return True
    return False


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
