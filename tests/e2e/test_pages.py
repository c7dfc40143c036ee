"""Every page, light and dark, on a phone and on a desk: axe finds nothing, nothing overflows, a picture is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Person, Visit
from tests.stack import Stack

PAGES = {
    "home": "/",
    "catalog": "/catalog/",
    "launch": "/catalog/launch/?item=recipe:busybox",
    "containers": "/containers/",
    "volumes": "/volumes/",
    "networks": "/networks/",
    "operations": "/operations/",
    "usage": "/usage/",
    "usage-year": "/usage/?range=year&by=image",
    "records": "/usage/records/",
    "invoices": "/usage/invoices/",
    "budget": "/usage/budget/",
    "metering-error": "/usage/metering-error/",
    "exports": "/usage/exports/",
    "sql": "/usage/sql/",
    "tokens": "/tokens/",
    "members": "/members/",
    "settings": "/settings/",
    "registries": "/catalog/registries/",
}
ADMIN_PAGES = {
    "admin-tenants": "/admin/tenants/",
    "admin-usage": "/admin/usage/",
    "admin-invoices": "/admin/invoices/",
    "admin-prices": "/admin/prices/",
    "admin-budgets": "/admin/budget/",
    "admin-metering-error": "/admin/metering-error/",
    "admin-exports": "/admin/exports/",
    "admin-users": "/admin/users/",
    "audit": "/audit/",
}
TABS = ("overview", "logs", "terminal", "processes", "files", "configuration", "change", "events", "isolation")
WIDTHS = {390: 844, 1440: 900}


def axe() -> str:
    """From npm, with the other development dependencies."""
    folders = [os.environ.get("SLIPWAY_NODE_MODULES", ""), os.environ.get("SLIPWAY_TEST_AXE", "")]
    for folder in filter(None, folders):
        for path in (Path(folder) / "axe-core/axe.min.js", Path(folder) / "axe.min.js"):
            if path.exists():
                return path.read_text(encoding="utf-8")
    pytest.fail("axe-core is not installed")


def _shown(person: Person) -> str:
    """A container to look at, launched once."""
    running = person.stack.running()
    if "shown" not in running:
        person.stack.wait_for_image("nginx")
        return person.launch("recipe:nginx", "shown")
    return next(one.id for one in person.stack.engine.list() if one.name == "shown")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("who", "pages"), [("demo", PAGES), ("admin", ADMIN_PAGES)])
def test_pages(visit: Visit, pictures: Path, *, who: str, pages: dict[str, str], width: int, scheme: str) -> None:
    person = visit(who, viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme)
    source = axe()
    found: dict[str, list[str]] = {}
    container = _shown(person) if who == "demo" else ""
    inside = {f"container-{tab}": f"/containers/{container}/?tab={tab}" for tab in TABS} if container else {}
    for name, path in {**pages, **inside}.items():
        page = person.go(path)
        page.locator("main").wait_for()
        page.wait_for_timeout(1500 if inside and name.startswith("container") else 200)
        page.evaluate(source)
        result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        wrong = [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in result["violations"]]
        if page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth"):
            wrong.append("wider than the screen")
        page.screenshot(path=pictures / f"{name}-{width}-{scheme}.png")
        if wrong:
            found[name] = wrong
    assert found == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_wrong_can_be_read(visit: Visit, *, width: int, scheme: str) -> None:
    """Also of a question in SQL, which is told in a box of its own, and of a word that no line holds."""
    person = visit("demo", viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme)
    page = person.go("/usage/sql/")
    page.locator("#query").fill("SELEC 1")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#query-problem")).to_contain_text("syntax error")
    source = axe()
    page.evaluate(source)
    result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    assert [one["nodes"][0]["html"][:120] for one in result["violations"]] == []
    page = person.go("/catalog/launch/?item=recipe:busybox")
    page.locator("details.more-options summary").click()
    page.locator("[name='aliases:default']").fill("x" * 90)
    page.locator("[name='aliases:default']").blur()
    expect(page.locator("#networks-problem")).to_contain_text("not a valid name")
    assert not page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth")


def test_filters_stand_beside_each_other_and_program_fields_in_a_row(visit: Visit) -> None:
    """What is wrong with one field moves none of its neighbours."""
    person = visit("demo", viewport={"width": 1440, "height": 900})
    page = person.go("/usage/records/")
    first, second = page.locator("#from").bounding_box(), page.locator("#to").bounding_box()
    assert first
    assert second
    assert (first["y"], first["x"]) == (second["y"], min(first["x"], second["x"]))
    page = person.go("/catalog/launch/?item=recipe:busybox")
    expect(page.locator("#retries")).to_be_hidden()  # it counts with one policy alone
    page.locator("#restart").select_option("on-failure")
    page.locator("#retries").fill("many")
    page.locator("#retries").blur()
    expect(page.locator("#restart-problem")).to_contain_text("whole number of retries")
    page.locator("details.more-options summary").click()
    page.locator("#working_dir").fill("relative")
    page.locator("#working_dir").blur()
    expect(page.locator("#working_dir-problem")).to_contain_text("not absolute")
    tops = "() => ['entrypoint', 'user', 'working_dir', 'hostname'].map(id => document.getElementById(id).offsetTop)"
    assert len(set(page.evaluate(tops))) == 1


def test_a_mistake_in_a_row_far_below_is_in_sight(visit: Visit) -> None:
    page = visit("demo", viewport={"width": 1440, "height": 500}).go("/catalog/launch/?item=recipe:busybox")
    page.get_by_role("button", name="Add a port").click()
    page.locator("[name=container_port]").first.fill("80")
    page.locator("[name=host_port]").first.fill("0")
    page.locator("[data-once-button]").click()
    expect(page.get_by_text("please correct what is marked")).to_be_visible()
    expect(page.locator("#ports-problem")).to_contain_text("0 is not a port")
    expect(page.locator("#ports-problem")).to_be_in_viewport()
    expect(page.locator("[name=container_port]").first).to_be_focused()


def test_sign_in_without_a_session(visit: Visit, running: Stack) -> None:
    page = visit().go("/containers/")
    expect(page.locator("[name=password]")).to_be_visible()
    assert page.url.startswith(running.url + "sign-in/")


def test_chinese_by_the_browsers_wish_and_by_the_switch(visit: Visit) -> None:
    page = visit("demo", locale="zh-CN").go("/containers/")
    assert (page.locator("html").get_attribute("lang") or "").lower().startswith("zh")
    expect(page.locator("main")).to_contain_text("容器")
    page = visit("demo", locale="en-GB").go("/containers/")
    assert page.locator("html").get_attribute("lang") == "en"
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("main")).to_contain_text("容器")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
