"""The launch form in the browser: each mistake beside its field as one leaves it, nothing typed is lost, and launching like another."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.conftest import Visit
from tests.stack import Stack

HEIGHT_WITHOUT = """box => {
  const section = box.closest('section')
  const whole = section.offsetHeight
  box.remove()
  return [whole, section.offsetHeight]
}"""


def test_every_field_is_checked_as_it_is_left(visit: Visit) -> None:
    page = visit("demo").go("/catalog/launch/?item=recipe:postgresql")
    wrong = {
        "[name=name]": ("Not A Name", "#name-problem", "lower-case"),
        "[name=command]": ("'unclosed", "#command-problem", "quotation mark"),
        "[name=memory]": ("3", "#memory-problem", "at least"),
        "[name=cpu]": ("nothing", "#cpu-problem", "number of vCPU"),
        "[name=pids]": ("0", "#pids-problem", "Choose from 1"),
        "[name=container_port]": ("70000", "#ports-problem", "is not a port"),
        "[name=variable_value] >> nth=0": ("", "#environment-problem", "POSTGRES_PASSWORD is required"),
    }
    for field, (typed, place, sentence) in wrong.items():
        page.locator(field).fill(typed)
        page.locator(field).press("Tab")
        expect(page.locator(place)).to_contain_text(sentence)
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was launched yet")
    expect(page.locator("[name=name]")).to_be_focused()
    for field, (typed, place, sentence) in wrong.items():
        expect(page.locator(field)).to_have_value(typed)
        expect(page.locator(place)).to_contain_text(sentence)
    page.get_by_role("button", name="Remove this port").click()
    expect(page.locator("#ports-problem")).to_be_empty()


def test_where_nothing_is_wrong_nothing_takes_room(visit: Visit) -> None:
    page = visit("demo").go("/catalog/launch/?item=recipe:postgresql")
    for place in ("#restart-problem", "#ports-problem", "#environment-problem"):
        whole, without = page.locator(place).evaluate(HEIGHT_WITHOUT)
        assert whole == without > 0


def test_launching_like_another(running: Stack, visit: Visit) -> None:
    with running.signed_in("demo") as member:
        member.launch("recipe:busybox", "first-try", command="no-such-command")
    page = visit("demo").go("/containers/")
    page.get_by_role("link", name="first-try").click()
    expect(page.locator("#status")).to_have_attribute("data-state", "failed", timeout=60_000)
    page.get_by_role("link", name="Launch anew, with changes").click()
    expect(page.locator("[name=name]")).to_have_value("first-try-2")
    expect(page.locator("[name=command]")).to_have_value("no-such-command")
    page.locator("[name=command]").fill("sleep 100000")
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.locator("#status")).to_have_attribute("data-state", "running", timeout=60_000)


def test_the_theme_switch_always_changes_what_is_seen(visit: Visit) -> None:
    """Also where "as the system" is dark already."""
    page = visit("demo", color_scheme="dark").go("/")
    root = page.locator("html")
    try:
        expect(root).to_have_attribute("data-bs-theme", "dark")
        page.get_by_role("button", name="Switch between light and dark").click()
        expect(root).to_have_attribute("data-bs-theme", "light")
    finally:
        page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/")[2] + "/settings/")
        page.locator("#theme").select_option("auto")
        expect(root).to_have_attribute("data-theme-choice", "auto")
