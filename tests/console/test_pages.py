"""Every page for everybody: members see, viewers see no actions, outsiders and strangers are refused, and no page asks more for more rows."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from console.accounts.models import Membership, Role, Tenant, User
from console.workloads.models import Container

pytestmark = pytest.mark.django_db

PAGES = [
    "/",
    "/containers/",
    "/containers/rows/",
    "/catalog/",
    "/operations/",
    "/volumes/",
    "/networks/",
    "/usage/",
    "/usage/records/",
    "/usage/invoices/",
    "/usage/budget/",
    "/usage/metering-error/",
    "/members/",
    "/settings/",
    "/catalog/registries/",
]
ADMIN = [
    "/admin/tenants/",
    "/admin/users/",
    "/admin/usage/",
    "/admin/records/",
    "/admin/invoices/",
    "/admin/budget/",
    "/admin/prices/",
    "/admin/metering-error/",
    "/audit/?all",
]
LIKE = "/catalog/launch/?like="
PARTS = [
    "",
    "?tab=logs",
    "?tab=terminal",
    "?tab=processes",
    "?tab=configuration",
    "?tab=change",
    "?tab=files",
    "?tab=events",
    "?tab=isolation",
    "status/",
    "configuration/",
    "events/",
]


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def container(tenant: Tenant, member: User) -> Container:
    return Container.objects.create(
        tenant=tenant, node="node", name="guarded", image_reference="slipway.local/busybox:latest", created_by=member,
        memory_bytes=1 << 26, cpu_millis=500, state="running", environment={"DB_PASSWORD": "x"},
    )  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_a_members(member: User, viewer: User, container: Container, path: str) -> None:
    assert signed_in(member).get(path).status_code == 200
    assert signed_in(viewer).get(path).status_code == 200
    assert reverse("accounts:sign-in") in Client().get(path).headers["Location"]


@pytest.mark.parametrize("path", ADMIN)
def test_administration_is_the_admins(admin: User, owner: User, path: str) -> None:
    assert signed_in(admin).get(path).status_code == 200
    assert signed_in(owner).get(path).status_code == 404


@pytest.mark.parametrize("part", PARTS)
def test_a_containers_doors(member: User, outsider: User, admin: User, container: Container, part: str) -> None:
    path = f"/containers/{container.id}/{part}"
    assert signed_in(member).get(path).status_code == 200
    assert signed_in(admin).get(path).status_code == 200
    refused = signed_in(outsider).get(path)
    assert refused.status_code == 404
    assert "guarded" not in refused.content.decode()


@pytest.mark.parametrize("part", ["configuration/", "?tab=configuration"])
def test_values_of_variables_are_not_a_viewers(member: User, viewer: User, container: Container, part: str) -> None:
    """They may be passwords, under whatever name."""
    Container.objects.filter(pk=container.pk).update(environment={"DB_PASSWORD": "x-one-x", "DATABASE_URL": "x-two-x"})
    path = f"/containers/{container.id}/{part}"
    shown, hidden = (signed_in(user).get(path).content.decode() for user in (member, viewer))
    for name, value in (("DB_PASSWORD", "x-one-x"), ("DATABASE_URL", "x-two-x")):
        assert value in shown
        assert name in hidden
        assert value not in hidden


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "kill", "pause", "resume", "remove"])
def test_deeds_are_refused_to_outsiders_and_viewers(
    outsider: User, viewer: User, container: Container, verb: str
) -> None:
    path = f"/containers/{container.id}/{verb}/"
    assert signed_in(outsider).post(path).status_code == 404
    assert signed_in(viewer).post(path).status_code == 403
    assert container.operations.count() == 0


def test_a_deed_that_is_refused_is_told_on_the_spot(member: User, container: Container) -> None:
    container.operations.create(tenant=container.tenant, kind="start", node="node", request_key="k")
    path, client = f"/containers/{container.id}/stop/", signed_in(member)
    refused = client.post(path, headers={"HX-Request": "true"})
    assert refused.status_code == 422
    assert "is not finished yet" in refused.content.decode()
    assert "is not finished yet" in client.post(path, follow=True).content.decode()


def test_a_viewer_sees_no_actions(viewer: User, member: User, container: Container) -> None:
    assert "data-act" in signed_in(member).get("/containers/").content.decode()
    for path in ("/containers/", f"/containers/{container.id}/"):
        assert "data-act" not in signed_in(viewer).get(path).content.decode()
    assert signed_in(viewer).get("/catalog/launch/").status_code == 403


def test_another_tenants_containers_are_in_no_list(outsider: User, container: Container) -> None:
    for path in ("/", "/containers/", "/containers/rows/", "/operations/", "/usage/export.csv", "/usage/export.json"):
        answer = signed_in(outsider).get(path)
        content = b"".join(list(answer)) if answer.streaming else answer.content
        assert container.id.encode() not in content


def rows_of(page: bytes) -> list[str]:
    return re.findall(r'data-row="(\w+)"', page.decode())


@pytest.fixture
def many(tenant: Tenant) -> list[str]:
    """250, by id, newest first; some of one moment."""
    at = timezone.now()
    rows = [
        Container(
            tenant=tenant, node="n", name=f"c{number}", image_reference="x", memory_bytes=1, cpu_millis=1,
            state="exited" if number % 50 == 0 else "running", created_at=at - timedelta(seconds=number // 7),
        )
        for number in range(250)
    ]  # fmt: skip
    for row in Container.objects.bulk_create(rows):
        Container.objects.filter(pk=row.pk).update(created_at=at - timedelta(seconds=int(row.name[1:]) // 7))
    return list(Container.objects.order_by("-created_at", "-id").values_list("id", flat=True))


def test_a_list_asks_no_more_for_more_rows(member: User, many: list[str]) -> None:
    client = signed_in(member)
    client.get("/containers/")
    with CaptureQueriesContext(connection) as one:
        assert len(rows_of(client.get("/containers/rows/", {"id": many[:1]}).content)) == 1
    with CaptureQueriesContext(connection) as all_:
        assert len(rows_of(client.get("/containers/rows/").content)) == 100
    assert len(all_) == len(one)


def test_a_long_list_comes_in_pages_that_meet(member: User, many: list[str], tenant: Tenant) -> None:
    """Also when one is launched between two of them."""
    client, seen, path = signed_in(member), [], "/containers/rows/"
    while path:
        page = client.get(path).content
        seen += rows_of(page)
        Container.objects.create(
            tenant=tenant, node="n", name=f"new{len(seen)}", image_reference="x", memory_bytes=1, cpu_millis=1
        )
        found = re.search(r'hx-get="([^"]+)"', page.decode())
        path = html.unescape(found[1]) if found else ""
    assert seen == many


def test_rows_that_changed_are_fetched_alone_and_only_if_they_fit_the_search(
    member: User, outsider: User, many: list[str]
) -> None:
    client = signed_in(member)
    assert rows_of(client.get("/containers/rows/", {"id": [many[0], many[200]]}).content) == [many[0], many[200]]
    ended = list(Container.objects.filter(state="exited").order_by("-created_at").values_list("id", flat=True))
    assert rows_of(client.get("/containers/rows/", {"state": "exited"}).content) == ended
    assert rows_of(client.get("/containers/rows/", {"id": ended[0], "state": "running"}).content) == []
    assert rows_of(signed_in(outsider).get("/containers/rows/", {"id": many[0]}).content) == []
    assert rows_of(signed_in(outsider).get("/containers/rows/", {"after": many[0]}).content) == []


@pytest.mark.parametrize("query", ["count=x", "count=-1", "count=99999999999999999999", "after=nothing", "state=odd"])
def test_a_query_that_makes_no_sense_breaks_nothing(member: User, query: str) -> None:
    assert signed_in(member).get(f"/containers/rows/?{query}").status_code == 200


def test_the_language_follows_the_browser_and_the_switch(member: User) -> None:
    client = signed_in(member)
    assert 'lang="zh-hans"' in client.get("/containers/", headers={"Accept-Language": "zh-CN"}).content.decode()
    client.post("/language/", {"language": "zh-hans", "next": "/containers/"})
    assert 'lang="zh-hans"' in client.get("/containers/", headers={"Accept-Language": "en"}).content.decode()


def test_a_switch_never_leads_to_another_site(member: User) -> None:
    answer = signed_in(member).post("/language/", {"language": "en", "next": "https://elsewhere.example/"})
    assert answer.headers["Location"] == "/"


def test_a_member_who_was_removed_sees_nothing(member: User, tenant: Tenant, container: Container) -> None:
    client = signed_in(member)
    assert client.get(f"/containers/{container.id}/").status_code == 200
    Membership.objects.filter(user=member, tenant=tenant, role=Role.MEMBER).delete()
    assert client.get(f"/containers/{container.id}/").status_code == 404


def test_scripts_come_only_from_our_own_files(member: User) -> None:
    policy = signed_in(member).get("/").headers["Content-Security-Policy"]
    script = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe" not in script
    assert "default-src 'none'" in policy


def test_launching_like_another_shows_what_it_was_launched_with_to_its_members_alone(
    client: Client, tenant: Tenant, member: User, viewer: User, outsider: User
) -> None:
    other = Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="registry.example.org/a:1", memory_bytes=96 * 2**20, cpu_millis=250,
        pids=7, command=["sh", "-c", "echo 'a b'"], environment={"TOKEN": "not-for-all"}, state="failed",
    )  # fmt: skip
    client.force_login(member)
    page = html.unescape(client.get(LIKE + other.id).content.decode())
    for value in ("web-2", "registry.example.org/a:1", "96", "0.25", "7", "not-for-all"):
        assert f'value="{value}"' in page
    assert """sh -c 'echo '"'"'a b'"'"''""" in page
    for refused, code in ((viewer, 403), (outsider, 404)):
        client.force_login(refused)
        answer = client.get(LIKE + other.id)
        assert answer.status_code == code
        assert "not-for-all" not in answer.content.decode()
