"""A receiver that never answers: it holds its own deliveries and nothing else, neither another tenant's nor the worker's."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from django.db import connections

from console.accounts.models import Tenant, User
from console.metering import webhooks
from console.metering.models import BudgetAlert, WebhookDelivery
from console.metering.services import budgets, deliveries
from console.operations import aside, tasks
from console.workloads.models import Container
from tests.conftest import patience
from tests.console.test_budgets import NOW, Receiver, container, receiver, spend, wish

__all__ = ["container", "receiver"]


@pytest.fixture
def silent() -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """Its address, whether somebody has come, and what makes it hang up; until then it takes everybody in and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    came, hang_up = threading.Event(), threading.Event()
    held: list[socket.socket] = []

    def hold() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return
            came.set()
            if hang_up.is_set():
                held.pop().close()

    def end() -> None:
        hang_up.wait()
        for one in tuple(held):
            one.close()

    for work in (hold, end):
        threading.Thread(target=work, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", came, hang_up
    hang_up.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def told(container: Container, admin: User, url: str, times: int) -> None:
    """So many deliveries of its tenant are due."""
    budgets.save(tenant=container.tenant, actor=admin, wish=wish(actual="50", webhook_url=url, webhook_inside=True))
    spend(container, 5, 60)
    budgets.check(NOW)
    first = WebhookDelivery.objects.get(tenant=container.tenant)
    for number in range(1, times):
        alert = BudgetAlert.objects.get(pk=first.alert_id)
        alert.pk, alert.percent = None, 50 + number
        alert.save(force_insert=True)
        first.pk, first.alert = f"{container.tenant_id[:20]}{number}", alert
        first.save(force_insert=True)


@pytest.mark.django_db
def test_it_is_tried_once_a_time_and_the_others_are_told(
    container: Container,
    admin: User,
    receiver: tuple[str, type[Receiver]],
    silent: tuple[str, threading.Event, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhooks, "WITHIN_S", 0.3)
    rival = Tenant.objects.create(name="Rival", slug="rival")
    theirs = Container.objects.create(
        tenant=rival, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500
    )
    told(container, admin, silent[0], 3)
    told(theirs, admin, receiver[0], 2)
    assert deliveries.deliver_due(NOW) == 3
    rows = WebhookDelivery.objects.order_by("attempts").values_list("tenant", "attempts", "state")
    mine, others = ([row[1:] for row in rows if row[0] == one] for one in (container.tenant_id, rival.pk))
    assert mine == [(0, "waiting"), (0, "waiting"), (1, "waiting")]
    assert others == [(1, "delivered"), (1, "delivered")]
    assert deliveries.deliver_due(NOW) == 1, "the next of them; the one that failed has its pause"


@pytest.mark.django_db(transaction=True)
def test_the_worker_goes_on_meanwhile(
    container: Container, admin: User, silent: tuple[str, threading.Event, threading.Event]
) -> None:
    url, came, hang_up = silent
    told(container, admin, url, 1)
    tasks.deliver()
    assert came.wait(patience(10))
    tasks.sweep()
    tasks.bill()
    tasks.deliver()
    assert not aside.begin("deliveries", lambda: None), "one is at it"
    assert (WebhookDelivery.objects.get().attempts, WebhookDelivery.objects.get().error) == (1, "")
    hang_up.set()
    deadline = time.monotonic() + patience(20)
    while not aside.begin("deliveries", lambda: None):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert WebhookDelivery.objects.get().error == "The address cannot be reached."
    connections.close_all()
