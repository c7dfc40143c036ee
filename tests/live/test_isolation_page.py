"""The tab ``isolation``: what the agent tells of a container, as a person reads it, over the fake engine."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import Client

from console.accounts.models import Tenant, User
from console.workloads.models import Container
from runtime.api import ContainerSpec, IsolationReport
from runtime.engines.fake.engine import FakeEngine
from runtime.home import Home
from tests.live.agent import agent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    made = FakeEngine(Home(tmp_path, "tfake"))
    made.create(ContainerSpec("cshown", "tenant1", "shown", made.build("busybox").id))
    made.start("cshown")
    return made


@pytest.fixture
def container(tenant: Tenant) -> Container:
    return Container.objects.create(
        id="cshown", tenant=tenant, node="n", name="shown", image_reference="x", memory_bytes=1, cpu_millis=1, state="running"
    )  # fmt: skip


def facts(page: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>([^<]*)</dt>\s*<dd[^>]*>([^<]*)</dd>", page))


def read(user: User, container: Container) -> dict[str, str]:
    """As the browser does: the tab, and then what it fetches."""
    client = Client()
    client.force_login(user)
    tab = client.get(f"/containers/{container.id}/?tab=isolation").content.decode()
    found = re.search(r'hx-get="([^"]*/isolation/)"', tab)
    assert found
    return facts(client.get(found[1]).content.decode())


@pytest.mark.parametrize(
    ("told", "connections", "terminals"),
    [
        ({}, "0 / 2048", "32"),
        ({"flows": 17, "flows_most": 300, "terminals_most": 5}, "17 / 300", "5"),
        ({"flows": None, "terminals_most": None}, "– / 2048", "–"),
    ],
)
def test_its_share_of_connections_and_terminals_is_told(
    engine: FakeEngine, container: Container, viewer: User, tmp_path: Path, settings: object,
    monkeypatch: pytest.MonkeyPatch, told: dict[str, int | None], connections: str, terminals: str,
) -> None:  # fmt: skip
    report: IsolationReport = replace(engine.isolation("cshown"), **told)  # type: ignore[arg-type]
    monkeypatch.setattr(engine, "isolation", lambda _id: report)
    settings.AGENT_SOCKET = str(tmp_path / "agent.sock")  # type: ignore[attr-defined]
    with agent(engine, tmp_path / "agent.sock"):
        shown = read(viewer, container)
    assert (shown["Connections begun"], shown["Terminals at most"]) == (connections, terminals)
