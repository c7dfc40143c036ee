"""Long names and small screens: what can be done stays in sight.  And what is not so any more is not shown as if it were."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.conftest import Visit
from tests.e2e.test_main_job import until
from tests.stack import Stack

LONG = "l" + "o" * 58 + "ng"
WIDER = "() => document.documentElement.scrollWidth > window.innerWidth"


def test_a_long_name_pushes_nothing_out_of_sight(running: Stack, visit: Visit) -> None:
    person = visit("demo", viewport={"width": 1440, "height": 900})
    id = person.launch("recipe:busybox", LONG)
    page = person.go("/containers/")
    expect(page.get_by_role("button", name=f"Remove {LONG}")).to_be_in_viewport(ratio=1)
    rows = page.locator("tbody tr").filter(has_text=LONG)
    until(
        lambda: person.go(f"/usage/records/?container={id}") is page and rows.count() > 0
    )  # of all there may be pages
    last = rows.first.locator("td").last.bounding_box()
    assert last
    assert last["x"] + last["width"] <= 1440
    narrow = visit("demo", viewport={"width": 390, "height": 844})
    for path in ("/", "/containers/", "/networks/", "/operations/", "/usage/"):
        page = narrow.go(path)
        expect(page.locator("main").get_by_text(LONG).first).to_be_visible()
        assert not page.evaluate(WIDER), path


LABELLED = f"""
from console.accounts.models import Tenant
from console.metering.models import Resource
demo = Tenant.objects.get(slug="demo")
Resource.objects.create(id="labelled", tenant=demo, kind="container", identity="c", name="c", node="n", labels={{"{LONG}": "x"}})
"""


def test_a_long_label_and_a_large_cost_fit_a_phone(running: Stack, visit: Visit) -> None:
    """In some currencies ten digits are the price of a small machine."""
    running.manage("shell", "-c", LABELLED)
    narrow = visit("demo", viewport={"width": 390, "height": 844})
    page = narrow.go("/usage/")
    expect(page.get_by_role("navigation", name="By", exact=True).get_by_role("link", name=LONG)).to_be_visible()
    assert not page.evaluate(WIDER)
    page = narrow.go("/")
    for cost in page.locator(".gauges dd").all():
        cost.evaluate("one => one.textContent = '15,366,747,430.972098 VND'")
    assert not page.evaluate(WIDER)


def test_on_a_phone_a_member_can_be_removed_and_the_price_is_beside_the_button(running: Stack, visit: Visit) -> None:
    page = visit("demo", viewport={"width": 390, "height": 844}).go("/members/")
    expect(page.get_by_role("button", name="Remove demo")).to_be_in_viewport(ratio=1)
    page.goto(f"{running.url}catalog/launch/?item=recipe:busybox")
    line, button = page.locator("#price-line"), page.get_by_role("button", name="Launch", exact=True)
    button.scroll_into_view_if_needed()
    assert line.evaluate("one => getComputedStyle(one).display") == "block"
    page.set_viewport_size({"width": 1440, "height": 900})
    assert line.evaluate("one => getComputedStyle(one).display") == "none"


def test_a_file_that_is_too_large_is_told_of_beside_its_field_and_not_sent(running: Stack, visit: Visit) -> None:
    """It ended on a bare page without a way back."""
    person = visit("demo")
    id = person.launch("recipe:busybox", "too-large")
    page = person.go(f"/containers/{id}/?tab=files")
    page.set_input_files("#file", {"name": "big", "mimeType": "text/plain", "buffer": b"x" * 3_000_000})
    expect(page.locator("#file-problem")).to_contain_text("larger than 2.5 MiB")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_timeout(500)
    assert page.url.endswith("?tab=files")
    page.set_input_files("#file", {"name": "small", "mimeType": "text/plain", "buffer": b"x"})
    expect(page.locator("#file-problem")).to_be_empty()
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("The upload is in /.")).to_be_visible()


def test_a_price_book_that_is_too_large_is_told_of_beside_its_field(visit: Visit) -> None:
    page = visit("admin").go("/admin/prices/")
    page.set_input_files("#file", {"name": "big.json", "mimeType": "application/json", "buffer": b" " * 3_000_000})
    expect(page.locator("#file-problem")).to_contain_text("larger than 1 MiB")
    page.get_by_role("button", name="Upload and look").click()
    expect(page.locator("#file")).to_be_focused()
    assert page.url.endswith("/admin/prices/")


def test_what_has_stopped_has_no_figures_of_now(running: Stack, visit: Visit) -> None:
    person = visit("demo")
    id = person.launch("recipe:busybox", "stopped-soon")
    page = person.go(f"/containers/{id}/")
    figure = page.locator("[data-chart=memory] [data-now]")
    expect(figure).to_contain_text("iB", timeout=30_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_attribute("data-state", "exited", timeout=30_000)
    expect(figure).to_have_text("–", timeout=45_000)
