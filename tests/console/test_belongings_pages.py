"""The pages of volumes and networks, by their forms: what members make and remove there, and how mistakes and refusals are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.accounts.models import Tenant, User
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Network, Volume
from console.workloads.services import MountRequest
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
SCRIPT = {"HX-Request": "true"}


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_a_volume_by_its_form(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    client = signed_in(member)
    assert "No volumes yet" in client.get("/volumes/").content.decode()
    form = {"name": "data", "size": "64", "request_key": "k"}
    assert client.post("/volumes/create/", form).status_code == 302
    assert client.post("/volumes/create/", form).status_code == 302, "a second click"
    volume = Volume.objects.get()
    assert volume.size_bytes == 64 << 20
    assert "Being made" in client.get("/volumes/").content.decode()
    run(operation=volume.operations.get().id)
    page = client.get("/volumes/").content.decode()
    assert "64 MiB" in page
    assert client.post(f"/volumes/{volume.id}/remove/", {"request_key": "r"}, headers=SCRIPT).status_code == 204
    assert "Being removed" in client.get("/volumes/").content.decode()
    assert "Remove volume" in client.get("/operations/").content.decode()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"name": "No", "size": ""}, "lower-case letters"),
        ({"name": "data", "size": "much"}, "Write a number of MiB"),
        ({"name": "data", "size": "1"}, "16 MiB of disk"),
        ({"name": "data", "size": str((2 << 20) + 1)}, "2 TiB of disk"),
    ],
)
def test_a_mistake_is_told_beside_its_field(
    tenant: Tenant, member: User, engine: FakeEngine, form: dict[str, str], sentence: str
) -> None:
    answer = signed_in(member).post("/volumes/create/", form)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert sentence in page
    assert f'value="{form["name"]}"' in page
    assert not Volume.objects.exists()


def test_who_has_it_is_named_and_a_removal_refused(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    launched(tenant, member, replace(BUSYBOX, mounts=(MountRequest("data", "/srv", make=True),)))
    volume, client = Volume.objects.get(), signed_in(member)
    page = client.get("/volumes/").content.decode()
    assert "/srv" in page
    assert f"/volumes/{volume.id}/remove/" not in page
    refused = client.post(f"/volumes/{volume.id}/remove/", headers=SCRIPT)
    assert refused.status_code == 422
    assert "box" in refused.content.decode()


def test_a_network_by_its_form(tenant: Tenant, member: User, viewer: User, engine: FakeEngine) -> None:
    client = signed_in(member)
    assert "No networks yet" in client.get("/networks/").content.decode()
    assert client.post("/networks/create/", {"name": "back", "internal": "on", "ipv6": "on"}).status_code == 302
    network = Network.objects.get()
    assert (network.internal, network.ipv6) == (True, True)
    run(operation=network.operations.get().id)
    network.refresh_from_db()
    page = client.get("/networks/").content.decode()
    assert network.subnet in page
    assert network.subnet6 in page
    seen = signed_in(viewer).get("/networks/").content.decode()
    assert "back" in seen
    assert "/networks/create/" not in seen
    answer = client.post("/networks/create/", {"name": "back"})
    assert answer.status_code == 422
    assert "There is a network of that name" in answer.content.decode()
    assert client.post(f"/networks/{network.id}/remove/").headers["Location"] == "/networks/"
    assert Network.objects.get().state == "removing"


def test_why_it_could_not_be_made_is_on_the_page(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    engine.misbehaviour.plan("create_volume", fault="OutOfSpace", times=1)
    operation = services.create_volume(tenant=tenant, actor=member, name="data", size_bytes=None, request_key="k")
    run(operation=operation.id)
    assert "The engine was told to fail." in signed_in(member).get("/volumes/").content.decode()


@pytest.mark.parametrize("path", ["/volumes/", "/networks/"])
def test_the_pages_ask_no_more_for_more_rows(tenant: Tenant, member: User, engine: FakeEngine, path: str) -> None:
    client, counts = signed_in(member), []
    for number in range(2):
        for kind in (Volume, Network):
            kind.objects.bulk_create(
                kind(tenant=tenant, node="n", name=f"x{number}-{one}", state="ready") for one in range(1 + number * 10)
            )
        with CaptureQueriesContext(connection) as asked:
            client.get(path)
        counts.append(len(asked))
    assert counts[0] == counts[1]
