"""The foldable part of the launch form: what is typed there reaches the engine, mistakes land beside their fields, and "launch like" carries all over."""

from __future__ import annotations

import html
import re

import pytest
from django.test import Client

from console.accounts.models import Tenant, User
from console.operations.models import Operation
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container, Network, Volume
from runtime.api import Attachment, HealthCheck, VolumeMount
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import engine

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
MIB = 2**20
SIMPLE = {
    "item": "recipe:busybox", "request_key": "k1", "name": "box", "command": "sleep 100", "memory": "64", "cpu": "0.5", "pids": "50",
}  # fmt: skip
OPTIONS = {"options": "1", "init": "on", "network": "default"}
EVERYTHING: dict[str, object] = {
    **SIMPLE, "options": "1", "read_only": "on",
    "mount_volume": ["data", ""], "mount_new": ["", "fresh"], "mount_size": ["", "32"], "mount_path": ["/data", "/fresh"],
    "mount_mode": ["ro", "rw"], "network": ["default", "back"], "aliases:back": "db store",
    "health_kind": "http", "health_port": "80", "health_path": "/ready", "health_interval": "5", "health_timeout": "2.5",
    "health_retries": "2", "health_start_period": "10",
    "label_name": ["team", "tier"], "label_value": ["web", "1 of 2"],
    "entrypoint": "sh -c", "user": "daemon", "working_dir": "/srv", "hostname": "host", "disk": "64",
}  # fmt: skip


@pytest.fixture
def client(tenant: Tenant, member: User, engine: FakeEngine) -> Client:
    made = Client()
    made.force_login(member)
    for operation in (
        services.create_volume(tenant=tenant, actor=member, name="data", size_bytes=None, request_key="v"),
        services.create_network(tenant=tenant, actor=member, name="back", request_key="n"),
    ):
        run(operation=operation.id)
    return made


def launched(client: Client, form: dict[str, object]) -> Container:
    answer = client.post("/catalog/launch/", form)
    assert answer.status_code == 302, answer.content.decode()
    container = Container.objects.order_by("-created_at")[0]
    for id in Operation.objects.filter(state="queued").order_by("created_at").values_list("id", flat=True):
        run(operation=id)
    container.refresh_from_db()
    return container


def fields(page: str) -> dict[str, list[str]]:
    """What a browser would send, of inputs and selects, templates left out."""
    page = re.sub(r"<template>.*?</template>", "", page, flags=re.DOTALL)
    page = page[page.index('<form method="post" class="launch"') :]
    page = page[: page.index("</form>")]
    found: dict[str, list[str]] = {}
    for tag in re.findall(r"<input[^>]*>|<select.*?</select>", page, flags=re.DOTALL):
        name = re.search(r' name="([^"]*)"', tag)
        if name is None or ('type="checkbox"' in tag and " checked" not in tag):
            continue
        if tag.startswith("<select"):
            chosen = re.search(r'<option value="([^"]*)" selected', tag) or re.search(r'<option value="([^"]*)"', tag)
            value = chosen.group(1) if chosen else ""
        else:
            typed = re.search(r' value="([^"]*)"', tag)
            value = typed.group(1) if typed else "on"
        found.setdefault(html.unescape(name.group(1)), []).append(html.unescape(value))
    return found


def test_everything_that_is_typed_reaches_the_engine(client: Client, engine: FakeEngine) -> None:
    container = launched(client, EVERYTHING)
    assert container.state == "running", container.reason
    spec = engine.spec(container.id)
    assert spec.volumes == (VolumeMount("data", "/data", True), VolumeMount("fresh", "/fresh"))
    assert Volume.objects.get(name="fresh").size_bytes == 32 * MIB
    assert spec.networks == (Attachment("default"), Attachment("back", aliases=("db", "store")))
    assert spec.health == HealthCheck(
        "http", port=80, path="/ready", interval_s=5, timeout_s=2.5, retries=2, start_period_s=10
    )
    assert dict(spec.labels) == {"team": "web", "tier": "1 of 2"}
    assert (spec.entrypoint, spec.user, spec.working_dir, spec.hostname) == (("sh", "-c"), "daemon", "/srv", "host")
    assert (spec.read_only, spec.init, spec.limits.disk_bytes) == (True, False, 64 * MIB)


def test_a_launch_like_it_is_the_same_but_for_its_name(client: Client, engine: FakeEngine) -> None:
    first = launched(client, EVERYTHING)
    page = client.get(f"/catalog/launch/?like={first.id}").content.decode()
    assert '<details class="card pad more-options" data-name="more" open>' in page
    second = launched(client, fields(page))
    one, other = services.spec(first), services.spec(second)
    assert other.name == "box-2"
    for name in ("volumes", "networks", "health", "labels", "entrypoint", "user", "working_dir", "hostname", "limits",
                 "read_only", "init", "command", "env", "restart"):  # fmt: skip
        assert getattr(one, name) == getattr(other, name), name


def test_a_simple_launch_is_what_it_was(client: Client, engine: FakeEngine) -> None:
    page = client.get("/catalog/launch/?item=recipe:busybox").content.decode()
    assert '<details class="card pad more-options" data-name="more">' in page, "it is folded"
    container = launched(client, fields(page))
    spec = engine.spec(container.id)
    assert (spec.volumes, spec.networks, spec.health, dict(spec.labels)) == ((), (), None, {})
    assert (spec.init, spec.read_only, spec.entrypoint, spec.user) == (True, False, None, None)


def test_a_form_without_that_part_is_a_simple_launch(client: Client, engine: FakeEngine) -> None:
    assert engine.spec(launched(client, dict(SIMPLE)).id).init


def test_the_price_is_of_what_is_made(client: Client, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    from console.metering.selectors import spending

    asked: list[dict[str, int]] = []
    monkeypatch.setattr(spending, "price", lambda *_args, **held: asked.append(held))
    again = {**EVERYTHING, "mount_volume": ["data", "", ""], "mount_new": ["", "fresh", "fresh"],
             "mount_size": ["", "32", "32"], "mount_path": ["/data", "/a", "/b"], "mount_mode": ["ro", "rw", "rw"]}  # fmt: skip
    client.post("/catalog/launch/price/", again)
    client.post("/catalog/launch/price/", SIMPLE)
    client.post("/catalog/launch/price/", {**EVERYTHING, "disk": "much"})
    held = {"memory_bytes": 64 * MIB, "cpu_millis": 500, "ports": 0}
    assert asked == [
        held | {"disk_bytes": 64 * MIB, "volume_bytes": 32 * MIB}, held | {"disk_bytes": 0, "volume_bytes": 0},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "field", "sentence"),
    [
        ({"mount_volume": "", "mount_new": "", "mount_size": "", "mount_path": "/data", "mount_mode": "rw"}, "volumes", "not a valid name"),
        ({"mount_volume": "data", "mount_new": "", "mount_size": "", "mount_path": "data", "mount_mode": "rw"}, "volumes", "not absolute"),
        ({"mount_volume": "", "mount_new": "x", "mount_size": "big", "mount_path": "/x", "mount_mode": "rw"}, "volumes", "number of MiB"),
        ({"network": "nonesuch"}, "networks", "There is no network nonesuch"),
        ({"aliases:default": "Bad_Name"}, "networks", "not a valid name"),
        ({"health_kind": "http"}, "health", "Write the port"),
        ({"health_kind": "command", "health_command": "'"}, "health", "quotation mark"),
        ({"health_kind": "command", "health_command": ""}, "health", "no command"),
        ({"health_kind": "tcp", "health_port": "80", "health_interval": "often"}, "health", "interval in seconds"),
        ({"label_name": ["a", "a"], "label_value": ["1", "2"]}, "labels", "given twice"),
        ({"label_name": [""], "label_value": ["1"]}, "labels", "not a label"),
        ({"disk": "1"}, "disk", "16 MiB of disk"),
        ({"disk": str((2 << 20) + 1)}, "disk", "2 TiB of disk"),
        ({"disk": "much"}, "disk", "number of MiB"),
        ({"entrypoint": "'"}, "entrypoint", "quotation mark"),
        ({"working_dir": "srv"}, "working_dir", "not absolute"),
        ({"hostname": "Bad Host"}, "hostname", "not a valid name"),
    ],
)  # fmt: skip
def test_mistakes_are_told_beside_their_fields(
    client: Client, engine: FakeEngine, typed: dict[str, object], field: str, sentence: str
) -> None:
    form = {**SIMPLE, **OPTIONS, **typed}
    beside = client.post(f"/catalog/launch/check/{field}/", form).content.decode()
    assert sentence in html.unescape(beside)
    answer = client.post("/catalog/launch/", form)
    assert answer.status_code == 422
    page = html.unescape(answer.content.decode())
    assert sentence in page
    assert '<details class="card pad more-options" data-name="more" open>' in page
    assert not Container.objects.exists()


def test_what_is_gone_is_offered_as_a_new_one(tenant: Tenant, member: User, client: Client, engine: FakeEngine) -> None:
    first = launched(client, EVERYTHING)
    run(operation=services.act(container=first, actor=member, verb="remove", request_key="r").id)
    run(operation=services.remove_volume(volume=Volume.objects.get(name="fresh"), actor=member, request_key="rv").id)
    run(operation=services.remove_network(network=Network.objects.get(name="back"), actor=member, request_key="rn").id)
    typed = fields(client.get(f"/catalog/launch/?like={first.id}").content.decode())
    assert typed["mount_volume"] == ["data", ""]
    assert (typed["mount_new"], typed["mount_size"]) == (["", "fresh"], ["", "32"])
    assert typed["network"] == ["default"]
    assert launched(client, typed).state == "running"


@pytest.mark.parametrize(
    ("changed", "field", "sentence"),
    [
        ({"entrypoint": "'open", "command": "'open"}, "entrypoint", "A quotation mark is not closed."),
        ({"pids": "64.5"}, "pids", "Write a whole number."),
        ({"health_retries": "1.5"}, "health", "Write a whole number of failures."),
        ({"health_port": "80.5"}, "health", "Write the port that the check asks."),
        (
            {"container_port": ["80", "81"], "host_port": ["9999", "9999"], "protocol": ["tcp", "tcp"]},
            "ports",
            "Port 9999 of the node is given twice.",
        ),
        ({"restart": "on-failure", "retries": "1.5"}, "restart", "Write a whole number of retries, or leave it empty."),
    ],
)
def test_each_mistake_is_told_at_its_field_and_nothing_is_rounded(
    client: Client, changed: dict[str, object], field: str, sentence: str
) -> None:
    """Also where another field is as wrong."""
    said = client.post(f"/catalog/launch/check/{field}/", {**EVERYTHING, **changed}).content.decode()
    assert sentence in html.unescape(said)
