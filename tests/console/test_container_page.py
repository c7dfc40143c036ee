"""A container's page: pausing, other limits, another name, its processes, and what it was launched with."""

from __future__ import annotations

import html
from dataclasses import replace

import pytest
from django.test import Client

from console.accounts.models import Tenant, User
from console.live import client as agent
from console.operations.models import Operation
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container
from console.workloads.services import MountRequest
from runtime.api import HealthCheck
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
SCRIPT = {"HX-Request": "true"}


@pytest.fixture
def container(tenant: Tenant, member: User, engine: FakeEngine) -> Container:
    return launched(tenant, member)


@pytest.fixture
def client(member: User) -> Client:
    made = Client()
    made.force_login(member)
    return made


def done() -> None:
    for id in Operation.objects.filter(state="queued").order_by("created_at").values_list("id", flat=True):
        run(operation=id)


def text(client: Client, container: Container, part: str) -> str:
    return html.unescape(client.get(f"/containers/{container.id}/{part}").content.decode())


def test_pausing_and_resuming(client: Client, container: Container) -> None:
    assert "/pause/" in text(client, container, "status/")
    assert client.post(f"/containers/{container.id}/pause/", headers=SCRIPT).status_code == 204
    done()
    page = text(client, container, "status/")
    assert "Paused" in page
    assert "/resume/" in page
    assert "/pause/" not in page
    assert "Paused" in client.get("/containers/").content.decode()
    client.post(f"/containers/{container.id}/resume/")
    done()
    assert "Paused" not in text(client, container, "status/")
    assert "Paused" in text(client, container, "events/")


def test_other_limits_by_the_form(client: Client, container: Container, engine: FakeEngine) -> None:
    page = text(client, container, "?tab=change")
    assert 'name="memory" value="64"' in page
    assert "now 64 MiB" in page
    form = {"memory": "96", "cpu": "0.25", "pids": "40", "request_key": "k"}
    for _click in range(2):
        assert client.post(f"/containers/{container.id}/limits/", form).status_code == 302
    done()
    limits = engine.spec(container.id).limits
    assert (limits.memory_bytes, limits.cpu_millis, limits.pids) == (96 << 20, 250, 40)
    assert Operation.objects.filter(kind="update").count() == 1
    told = text(client, container, "events/")
    assert "96 MiB" in told
    assert "before: 64 MiB" in told


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"memory": "1", "cpu": "0.5", "pids": "40"}, "at least 6 MiB"),
        ({"memory": "much", "cpu": "0.5", "pids": "40"}, "Write a number of MiB."),
        ({"memory": "64", "cpu": "9999", "pids": "40"}, "the node has no more"),
        ({"memory": "64", "cpu": "0.5", "pids": "1"}, "choose 2 or more"),
        ({"memory": "64", "cpu": "0.5", "pids": "2.5"}, "Write a whole number."),
        ({"memory": "64", "cpu": "0.5", "pids": "256"}, "change one"),
        ({"memory": "99999999", "cpu": "0.5", "pids": "256"}, "The node has only"),
    ],
)
def test_limits_that_cannot_be_are_told_beside_their_field(
    client: Client, container: Container, form: dict[str, str], sentence: str
) -> None:
    answer = client.post(f"/containers/{container.id}/limits/", form)
    assert answer.status_code == 422
    page = html.unescape(answer.content.decode())
    assert sentence in page
    assert f'name="memory" value="{form["memory"]}"' in page
    assert not Operation.objects.filter(kind="update").exists()


def test_another_name_by_the_form(client: Client, container: Container) -> None:
    refused = client.post(f"/containers/{container.id}/rename/", {"name": "Bad Name"})
    assert refused.status_code == 422
    assert "lower-case letters" in refused.content.decode()
    assert client.post(f"/containers/{container.id}/rename/", {"name": "fresh"}).status_code == 302
    done()
    assert ">fresh</h1>" in text(client, container, "status/")
    assert "box → fresh" in text(client, container, "events/")


def test_what_members_change_is_not_shown_to_viewers(viewer: User, container: Container) -> None:
    looking = Client()
    looking.force_login(viewer)
    page = text(looking, container, "?tab=change")
    assert 'href="?tab=change"' not in page
    assert 'data-tab="overview"' in page
    for door in ("limits", "rename", "pause"):
        assert looking.post(f"/containers/{container.id}/{door}/", {"name": "x"}).status_code == 403
    assert looking.get(f"/containers/{container.id}/processes/").status_code == 403


def test_processes_are_the_agents_word(
    client: Client, container: Container, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    async def ask(verb: str, id: str, _user: int, _args: object = None) -> dict[str, object]:
        from dataclasses import asdict

        asked.append((verb, id))
        return {"processes": [asdict(row) for row in engine.controls.top(id)]}

    monkeypatch.setattr(agent, "ask", ask)
    page = text(client, container, "processes/")
    assert asked == [("top", container.id)]
    assert "sleep 100" in page
    assert "4242" in page


def test_what_it_was_launched_with(tenant: Tenant, member: User, client: Client, engine: FakeEngine) -> None:
    request = replace(
        BUSYBOX, mounts=(MountRequest("data", "/srv/data", read_only=True, make=True),), labels={"team": "web"},
        health=HealthCheck("http", port=8080, path="/ready"), disk_bytes=64 << 20, user="daemon", entrypoint="sh -c",
    )  # fmt: skip
    container = launched(tenant, member, request)
    page = text(client, container, "configuration/")
    for shown in ("/srv/data", "read-only", "team", "web", "HTTP :8080/ready", "64 MiB", "daemon", "sh -c",
                  "box.default.slipway.internal", str(engine.inspect(container.id).address)):  # fmt: skip
        assert shown in page


def test_what_the_check_said_is_read_on_the_page(client: Client, container: Container, engine: FakeEngine) -> None:
    status = engine.inspect(container.id)
    services.observe(replace(status, health="unhealthy", health_output="<b>connection refused</b>"))
    raw = client.get(f"/containers/{container.id}/status/").content.decode()
    assert "&lt;b&gt;connection refused" in raw
    assert "Unhealthy" in client.get("/containers/").content.decode()
    assert "Its health check fails." in client.get("/").content.decode()
