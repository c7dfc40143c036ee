"""Pages that were opened before something else happened: a session that ended, a change in another tab."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from console.accounts.models import Tenant, User
from console.operations.models import Operation
from console.operations.tasks import run
from console.workloads.models import Container
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
MIB = 2**20
SCRIPTED = {"HX-Request": "true"}


def fields(page: str) -> dict[str, str]:
    """Of the form of limits, as a browser would send them."""
    (form,) = re.findall(r'<form method="post" action="[^"]+/limits/".*?</form>', page, re.DOTALL)
    return dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', form))


def changed(client: Client, container: Container, typed: dict[str, str]) -> int:
    answer = client.post(f"/containers/{container.id}/limits/", typed)
    for operation in Operation.objects.filter(state="queued"):
        run(operation=operation.id)
    container.refresh_from_db()
    return answer.status_code


def test_what_nobody_changed_on_a_page_stays_as_another_left_it(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    """The second tab's CPU took the first tab's memory back."""
    container = launched(tenant, member)
    client = Client()
    client.force_login(member)
    first, second = (
        fields(client.get(f"/containers/{container.id}/?tab=change").content.decode()) for _tab in range(2)
    )
    assert changed(client, container, {**first, "memory": "128"}) == 302
    assert changed(client, container, {**second, "cpu": "0.25"}) == 302
    assert (container.memory_bytes, container.cpu_millis) == (128 * MIB, 250)


def test_what_was_shown_is_still_known_after_a_mistake(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    client = Client()
    client.force_login(member)
    shown = fields(client.get(f"/containers/{container.id}/?tab=change").content.decode())
    assert changed(client, container, {**shown, "request_key": "other", "memory": "128"}) == 302
    answer = client.post(f"/containers/{container.id}/limits/", {**shown, "cpu": "much"})
    assert answer.status_code == 422
    again = fields(answer.content.decode())
    assert (again["shown_cpu"], again["cpu"]) == (shown["cpu"], "much")
    assert changed(client, container, {**again, "cpu": "0.25"}) == 302
    assert (container.memory_bytes, container.cpu_millis) == (128 * MIB, 250)


def test_a_part_of_a_page_is_never_the_page_to_sign_in(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    """The price of a launch and the cost of a container were, once the session had ended."""
    container = launched(tenant, member)
    stranger = Client()
    for path in (f"/containers/{container.id}/cost/", "/usage/so-far/", "/containers/rows/"):
        answer = stranger.get(path, headers=SCRIPTED)
        assert (answer.status_code, answer.content, answer.headers["HX-Refresh"]) == (401, b"", "true")
        assert stranger.get(path).status_code == 302
    answer = stranger.post("/catalog/launch/price/", {"memory": "64"}, headers=SCRIPTED)
    assert (answer.status_code, answer.content) == (401, b"")
    assert "HX-Refresh" not in answer.headers, "what is typed stays"
