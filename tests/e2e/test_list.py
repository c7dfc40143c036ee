"""A list of 1,000 containers in the browser: it comes in pages, an event fetches its own row and nothing else, the search finds all."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visit
from tests.stack import Stack

WHO, PASSWORD = "crowd", "A-crowd-of-containers-1000"
CROWD = f"""
from console.accounts import services
from console.accounts.models import Role, User
from console.workloads.models import Container
tenant = services.create_tenant(actor=None, name="Crowd", slug="crowd")
User.objects.create_user(username="{WHO}", password="{PASSWORD}")
services.add_member(actor=None, tenant=tenant, username="{WHO}", role=Role.OWNER)
Container.objects.bulk_create([Container(tenant=tenant, node="elsewhere", name=f"one-{{n:04}}", image_reference="slipway.local/nginx:1",
    memory_bytes=1 << 26, cpu_millis=500, state="exited") for n in range(1000)])
"""
CHANGES = """
from console.core.live import announce
from console.workloads.models import Container
from django.db import transaction
with transaction.atomic():
    one = Container.objects.filter(tenant__slug="crowd").order_by("-created_at", "-id")[40]
    Container.objects.filter(pk=one.pk).update(state="failed")
    announce(one.tenant_id, "container", one.id, state="failed")
    new = Container.objects.create(tenant=one.tenant, node="elsewhere", name="brand-new", image_reference="x",
        memory_bytes=1, cpu_millis=1, state="exited")
    announce(one.tenant_id, "container", new.id, state="exited")
"""
GONE = """
from console.core.live import announce
from console.workloads.models import Container
from django.db import transaction
from django.utils import timezone
with transaction.atomic():
    one = Container.objects.get(name="brand-new")
    Container.objects.filter(pk=one.pk).update(state="removed", removed_at=timezone.now())
    announce(one.tenant_id, "container", one.id, state="removed")
"""


@pytest.fixture
def crowd(running: Stack, visit: Visit) -> Iterator[Page]:
    running.manage("shell", "-c", CROWD)
    running.passwords[WHO] = PASSWORD
    yield visit(WHO).go("/containers/")
    running.manage(
        "shell", "-c",
        "from console.accounts.models import Tenant, User; from console.workloads.models import Container\n"
        "Container.objects.filter(tenant__slug='crowd').delete(); Tenant.objects.filter(slug='crowd').delete();"
        f"User.objects.filter(username='{WHO}').delete()",
    )  # fmt: skip


def test_a_thousand_rows(running: Stack, crowd: Page) -> None:
    rows = crowd.locator("[data-row]")
    expect(rows).to_have_count(100)
    expect(crowd.locator("[data-connection]")).to_have_attribute("data-state", "on")
    asked: list[str] = []
    crowd.on("request", lambda request: asked.append(request.url) if "/containers/" in request.url else None)

    fortieth = rows.nth(40)
    name = fortieth.locator(".main-cell a").inner_text()
    running.manage("shell", "-c", CHANGES)
    expect(crowd.locator("[data-row]", has_text=name)).to_contain_text("Failed")
    expect(rows.first).to_contain_text("brand-new")
    assert len(asked) in {1, 2}, "the two rows, together or one by one"
    assert all("id=" in url for url in asked)

    running.manage("shell", "-c", GONE)
    expect(crowd.get_by_text("brand-new")).to_have_count(0)
    expect(rows).to_have_count(100)
    assert all("id=" in url for url in asked)

    crowd.locator("[data-more]").scroll_into_view_if_needed()
    expect(rows).to_have_count(200)
    assert len([url for url in asked if "after=" in url]) == 1

    crowd.get_by_label("Search containers").fill("one-0777")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("one-0777")
    crowd.get_by_label("Search containers").fill("no such name")
    expect(crowd.get_by_text("No container is like that.")).to_be_visible()


def test_every_row_can_be_reached_without_scripts_to_scroll(crowd: Page) -> None:
    """The link at the end leads on by itself."""
    more = crowd.locator("[data-more] a")
    assert re.fullmatch(r"/containers/\?search=&state=&after=\w+", more.get_attribute("href") or "")
    first = crowd.locator("[data-row]").first.get_attribute("data-row")
    crowd.goto(crowd.url.split("/containers/")[0] + str(more.get_attribute("href")))
    expect(crowd.locator("[data-row]").first).to_be_visible()
    assert crowd.locator("[data-row]").first.get_attribute("data-row") != first
