"""A tenant's metrics for Prometheus, from the agent's socket to what promtool reads."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from console.accounts import tokens
from console.accounts.models import MetricsToken, Tenant, User
from console.core.errors import Invalid, Missing, NotAllowed
from console.workloads.models import Container
from runtime.api import ContainerSpec
from runtime.engines.fake.engine import FakeEngine
from runtime.home import Home
from tests.live.agent import agent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def engine(tmp_path: Path, settings: object) -> Iterator[FakeEngine]:
    """With an agent in front of it, as the web process finds it."""
    settings.AGENT_SOCKET = str(tmp_path / "agent.sock")  # type: ignore[attr-defined]
    made = FakeEngine(Home(tmp_path, "tfake"))
    with agent(made, tmp_path / "agent.sock"):
        yield made


def running(engine: FakeEngine, tenant: Tenant, name: str) -> Container:
    image = engine.build("busybox")
    row = Container.objects.create(
        tenant=tenant, node="node", name=name, image_reference='built-in/busybox:"quoted\\', memory_bytes=64 << 20,
        cpu_millis=1500, state=Container.State.RUNNING, started_at="2026-01-02T03:04:05Z",
    )  # fmt: skip
    engine.create(ContainerSpec(row.id, tenant.id, name, image.id, command=("sleep", "100")))
    engine.start(row.id)
    return row


def scraped(token: str) -> str:
    answer = Client().get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.content
    return answer.content.decode()


def values(text: str) -> dict[tuple[str, str], float]:
    """(sample, container's name) -> value."""
    families = text_string_to_metric_families(text)
    return {(one.name, one.labels["name"]): one.value for family in families for one in family.samples}


def test_the_figures_are_the_engines_and_promtool_finds_no_fault(
    engine: FakeEngine, tenant: Tenant, owner: User, settings: object
) -> None:
    row = running(engine, tenant, "web")
    _made, token = tokens.create(actor=owner, tenant=tenant, name="prometheus")
    before = engine.counters([row.id])[row.id]
    text = scraped(token)
    found = values(text)
    after = engine.counters([row.id])[row.id]
    assert before.cpu_ns is not None
    assert after.cpu_ns is not None
    assert before.cpu_ns <= round(found["container_cpu_usage_seconds_total", "web"] * 1e9) <= after.cpu_ns
    assert found["container_memory_usage_bytes", "web"] == after.memory_bytes
    assert found["container_spec_memory_limit_bytes", "web"] == 64 << 20
    assert found["container_spec_cpu_quota", "web"] / found["container_spec_cpu_period", "web"] == 1.5
    assert found["container_start_time_seconds", "web"] == 1767323045
    assert f'id="/{settings.INSTANCE}/{tenant.id}/{row.id}"' in text  # type: ignore[attr-defined]
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_promtool_would_find_a_fault(engine: FakeEngine, tenant: Tenant, owner: User) -> None:
    running(engine, tenant, "web")
    _made, token = tokens.create(actor=owner, tenant=tenant, name="prometheus")
    spoilt = scraped(token).replace('name="web"', "name=web", 1)
    assert subprocess.run(["promtool", "check", "metrics"], input=spoilt, text=True, check=False).returncode != 0


def test_what_the_kernel_does_not_say_is_left_out(
    engine: FakeEngine, tenant: Tenant, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    row = running(engine, tenant, "web")
    _made, token = tokens.create(actor=owner, tenant=tenant, name="prometheus")
    known = engine.counters([row.id])[row.id]
    monkeypatch.setattr(engine, "counters", lambda _ids: {row.id: replace(known, block_read_bytes=None)})
    found = values(scraped(token))
    assert ("container_fs_reads_bytes_total", "web") not in found
    assert ("container_fs_writes_bytes_total", "web") in found


def test_a_token_opens_its_own_tenant_until_it_is_revoked(
    engine: FakeEngine, tenant: Tenant, owner: User, outsider: User
) -> None:
    running(engine, tenant, "mine")
    theirs = outsider.tenants.get()
    running(engine, theirs, "theirs")
    made, token = tokens.create(actor=owner, tenant=tenant, name="prometheus")
    names = {name for _sample, name in values(scraped(token))}
    assert names == {"mine"}
    made.refresh_from_db()
    assert made.used_at is not None
    assert token not in str(MetricsToken.objects.values())
    with pytest.raises(Missing):
        tokens.revoke(actor=outsider, tenant=theirs, id=made.pk)
    tokens.revoke(actor=owner, tenant=tenant, id=made.pk)
    assert Client().get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer slm_wrong", "Basic eDp5", "Bearer \udce9"])
def test_without_a_good_token_nothing_is_told(engine: FakeEngine, tenant: Tenant, owner: User, header: str) -> None:
    running(engine, tenant, "secret-name")
    client = Client()
    client.force_login(owner)  # a session opens nothing here
    answer = client.get("/metrics", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert "Bearer" in answer["WWW-Authenticate"]
    assert b"secret-name" not in answer.content


def test_without_the_agent_it_is_said(tenant: Tenant, owner: User, settings: object, tmp_path: Path) -> None:
    settings.AGENT_SOCKET = str(tmp_path / "nobody.sock")  # type: ignore[attr-defined]
    _made, token = tokens.create(actor=owner, tenant=tenant, name="prometheus")
    answer = Client().get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 503


def test_only_owners_make_tokens_and_bad_names_are_refused(tenant: Tenant, owner: User, member: User) -> None:
    with pytest.raises(NotAllowed):
        tokens.create(actor=member, tenant=tenant, name="mine")
    for name, why in [("", "what it is for"), ("x" * 61, "too long")]:
        with pytest.raises(Invalid, match=why):
            tokens.create(actor=owner, tenant=tenant, name=name)
    for number in range(tokens.MOST):
        tokens.create(actor=owner, tenant=tenant, name=f"n{number}")
    with pytest.raises(Invalid, match="revoke one first"):
        tokens.create(actor=owner, tenant=tenant, name="one more")
    tokens.revoke(actor=owner, tenant=tenant, id=MetricsToken.objects.get(name="n1").pk)
    with pytest.raises(Invalid, match="of that name"):
        tokens.create(actor=owner, tenant=tenant, name="n0")


def test_the_page_shows_a_token_once(tenant: Tenant, owner: User) -> None:
    client = Client()
    client.force_login(owner)
    answer = client.post("/tokens/", {"name": "grafana"})
    assert "data-token>slm_" in answer.content.decode()
    assert answer["Cache-Control"] == "no-store"
    assert "slm_" not in client.get("/tokens/").content.decode()
    refused = client.post("/tokens/", {"name": "grafana"})
    assert (refused.status_code, "There is a token of that name" in refused.content.decode()) == (422, True)
