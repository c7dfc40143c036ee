"""A restart policy from the form to the bill: what a person chooses, what the page shows while it waits, and that each start is billed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from django.test import Client

from console.accounts.models import Tenant, User
from console.core.errors import Invalid
from console.live.agent.sampling import Sampling
from console.live.agent.truth import Truth
from console.metering.models import MeterEpoch
from console.workloads import restarts, services
from console.workloads.models import Container
from runtime.api import ContainerStatus, RestartPolicy
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, act, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
ALWAYS = replace(BUSYBOX, restart="always")


@pytest.fixture
def truth(engine: FakeEngine, tmp_path: Path) -> Truth:
    return Truth(engine, cast("Sampling", None), tmp_path / "exits")


def restarted(engine: FakeEngine, id: str) -> ContainerStatus:
    while (status := engine.restarts.carry_out(id)) is None:
        time.sleep(0.02)
    return status


def page(member: User, container: Container, part: str) -> str:
    client = Client()
    client.force_login(member)
    return client.get(f"/containers/{container.id}/{part}/").content.decode()


def test_each_start_by_a_policy_is_told_and_billed(
    tenant: Tenant, member: User, engine: FakeEngine, truth: Truth
) -> None:
    container = launched(tenant, member, ALWAYS)
    assert engine.spec(container.id).restart == RestartPolicy("always")
    engine.crash(container.id, 1)
    truth._settle(container.id)
    container.refresh_from_db()
    assert container.state == "exited"
    assert container.restart_at is not None
    assert "data-restart" in page(member, container, "status")
    truth._kept(restarted(engine, container.id))
    container.refresh_from_db()
    assert (container.state, container.epoch, container.restart_at) == ("running", 2, None)
    assert list(container.events.values_list("kind", flat=True)) == [
        "restarted", "restarting", "exited", "started", "created",
    ]  # fmt: skip
    assert "restart 1" in page(member, container, "events")
    ends = MeterEpoch.objects.filter(container=container).order_by("number").values_list("number", "end_reason")
    assert list(ends) == [(1, "exited"), (2, "")]


def test_a_start_that_fails_says_why_and_when_the_next_is(
    tenant: Tenant, member: User, engine: FakeEngine, truth: Truth
) -> None:
    container = launched(tenant, member, ALWAYS)
    engine.crash(container.id, 1)
    truth._settle(container.id)
    status = engine.inspect(container.id)
    assert status.restart_at is not None
    services.observe(replace(status, restart_at=status.restart_at + 5, restarts=1, reason="The node's disk is full."))
    newest = container.events.first()
    assert newest is not None
    assert (newest.kind, newest.data["reason"]) == ("restarting", "The node's disk is full.")
    assert container.events.filter(kind="exited").count() == 1


def test_a_stop_while_it_waits_is_the_end_of_it(tenant: Tenant, member: User, engine: FakeEngine, truth: Truth) -> None:
    container = launched(tenant, member, ALWAYS)
    engine.crash(container.id, 1)
    truth._settle(container.id)
    assert act(container, member, "stop").state == "succeeded"
    container.refresh_from_db()
    assert (container.state, container.restart_at) == ("exited", None)
    assert engine.restarts.waiting() == {}


def test_a_crash_loop_does_not_fill_the_database(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member, ALWAYS)
    engine.crash(container.id, 1)
    status = engine.inspect(container.id)
    for number in range(restarts.KEPT + 20):
        restarts.waits(container, replace(status, restarts=number))
    assert container.events.filter(kind="restarting").count() == restarts.KEPT
    assert container.events.filter(kind="created").exists()
    assert container.events.filter(kind="started").exists()


def test_health_is_shown_and_its_changes_are_events(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    status = engine.inspect(container.id)
    for health in ("starting", "healthy", "healthy", "unhealthy"):
        services.observe(replace(status, health=health, health_output="<b>refused</b>"))  # type: ignore[arg-type]
    assert list(container.events.values_list("kind", flat=True))[:2] == ["unhealthy", "healthy"]
    assert 'data-health="unhealthy"' in page(member, container, "status")
    assert "&lt;b&gt;refused" in page(member, container, "events")


@pytest.mark.parametrize(("policy", "retries"), [("sometimes", None), ("always", 3), ("on-failure", 0)])
def test_a_policy_that_cannot_be_is_refused_on_its_field(
    tenant: Tenant, member: User, engine: FakeEngine, policy: str, retries: int | None
) -> None:
    request = replace(BUSYBOX, restart=policy, restart_retries=retries)
    with pytest.raises(Invalid) as refused:
        services.launch(tenant=tenant, actor=member, request=request, request_key="k")
    assert refused.value.field == "restart"
    assert not Container.objects.exists()


@pytest.mark.parametrize(
    ("restart", "retries", "expected"),
    [
        ("on-failure", "3", ("on-failure", 3)),
        ("on-failure", "", ("on-failure", None)),
        ("always", "7", ("always", None)),
    ],
)
def test_the_form_takes_the_policy(
    tenant: Tenant, member: User, engine: FakeEngine, restart: str, retries: str, expected: tuple[str, int | None]
) -> None:
    client = Client()
    client.force_login(member)
    form = {
        "item": "recipe:busybox", "request_key": "k1", "name": "box", "command": "sleep 100", "memory": "64", "cpu": "0.5",
        "pids": "50", "restart": restart, "retries": retries,
    }  # fmt: skip
    client.post("/catalog/launch/", form)
    made = Container.objects.get()
    assert (made.restart_policy, made.restart_retries) == expected
    again = client.get(f"/catalog/launch/?like={made.id}").content.decode()
    assert f'<option value="{restart}" selected>' in again


def test_a_mistyped_number_of_retries_lands_on_its_field(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    client = Client()
    client.force_login(member)
    form = {
        "item": "recipe:busybox", "request_key": "k1", "name": "box", "memory": "64", "cpu": "0.5", "pids": "50",
        "restart": "on-failure", "retries": "many",
    }  # fmt: skip
    answer = client.post("/catalog/launch/", form).content.decode()
    assert "Write a whole number of retries" in answer
    assert not Container.objects.exists()
