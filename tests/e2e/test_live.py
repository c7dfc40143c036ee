"""Open pages stay right whatever goes away meanwhile: the web process, Redis, a container, the session."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import Visit
from tests.stack import Stack

COUNTING = "sh -c 'trap exit TERM; i=0; while true; do i=$((i+1)); echo line-$i; sleep 0.5 & wait $!; done'"
SOON_MS, LATER_MS = 20_000, 60_000


@pytest.fixture
def counting(running: Stack, visit: Visit) -> str:
    name = "counting"
    if name not in running.running():
        with running.signed_in("demo") as member:
            old = next((one.id for one in running.engine.list() if one.name == name), None)
            if old:
                member.post(f"/containers/{old}/start/")
            else:
                member.launch("recipe:busybox", name, command=COUNTING)
        running._until(lambda: name in running.running(), 60, f"running: {name}")
    return next(one.id for one in running.engine.list() if one.name == name)


def _kill(running: Stack, name: str) -> None:
    before = running.pid(name)
    os.kill(before, signal.SIGKILL)
    running.wait_for(name, other_than=before)


def _live(page: Page) -> None:
    expect(page.locator("[data-connection]")).to_have_attribute("data-state", "on", timeout=SOON_MS)


def test_the_web_process_is_killed(running: Stack, visit: Visit, counting: str) -> None:
    """The log goes on where it was, the terminal says so and begins anew on Enter, the list is live again: nothing is loaded anew."""
    member = visit("demo")
    logs = member.go(f"/containers/{counting}/?tab=logs")
    expect(logs.get_by_text("line-", exact=False).first).to_be_visible(timeout=SOON_MS)
    terminal = member.page.context.new_page()
    terminal.goto(f"{running.url}containers/{counting}/?tab=terminal")
    screen = terminal.locator(".xterm-rows")
    expect(screen).to_contain_text("#", timeout=SOON_MS)
    logs.evaluate("window.stays = true")
    _kill(running, "web")
    _live(logs)
    seen = logs.locator(".log-lines > div").count()
    expect(logs.locator(".log-lines > div").nth(seen + 2)).to_be_attached(timeout=SOON_MS)
    lines = logs.locator(".log-lines .text").all_inner_texts()
    assert len(lines) == len(set(lines)), "a line came twice"
    numbers = [int(line.removeprefix("line-")) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a line is missing"
    expect(screen).to_contain_text("The connection to this session is lost", timeout=SOON_MS)
    terminal.locator(".xterm").click()
    terminal.keyboard.press("Enter")
    terminal.keyboard.type("echo again-$((6*7))\n")
    expect(screen).to_contain_text("again-42", timeout=SOON_MS)
    assert logs.evaluate("window.stays") is True


def test_what_happens_while_redis_is_away_is_seen(running: Stack, visit: Visit, counting: str) -> None:
    """Its events are lost with it; three open pages still become right."""
    member = visit("demo")
    home, lists, one = member.page, member.page.context.new_page(), member.page.context.new_page()
    home.goto(running.url)
    lists.goto(f"{running.url}containers/")
    one.goto(f"{running.url}containers/{counting}/")
    expect(one.locator("#status")).to_have_attribute("data-state", "running")
    row = lists.locator(f"#row-{counting}")
    expect(row.locator("[data-memory]")).to_contain_text("iB", timeout=SOON_MS)
    for page in (home, lists, one):
        _live(page)
    os.kill(running.pid("redis"), signal.SIGKILL)
    one.get_by_role("button", name="Stop").click()
    expect(one.locator("#status")).to_have_attribute("data-state", "exited", timeout=LATER_MS)
    expect(row).to_have_attribute("data-state", "exited", timeout=LATER_MS)
    expect(row.locator("[data-memory]")).to_have_text("–")
    expect(home.locator("#home-containers").get_by_text("counting")).to_have_count(0, timeout=LATER_MS)


def test_a_lost_connection_is_told_and_a_deed_then_is_not_silent(visit: Visit, counting: str) -> None:
    member = visit("demo", viewport={"width": 390, "height": 844})
    page = member.go(f"/containers/{counting}/")
    expect(page.locator("#status")).to_have_attribute("data-state", "running")
    page.route("**/containers/*/restart/", lambda route: route.abort())
    page.get_by_role("button", name="Restart").click()
    expect(page.locator("[data-notices]")).to_contain_text("The console does not answer")
    expect(page.get_by_role("button", name="Restart")).to_be_enabled()


def test_a_refusal_is_read_on_the_spot(running: Stack, visit: Visit, counting: str) -> None:
    """Another operation on it is open: the sentence is on this page, not on the next."""
    page = visit("demo").go(f"/containers/{counting}/")
    running.manage("shell", "-c", OPEN_OPERATION.format(id=counting))
    try:
        page.get_by_role("button", name="Restart").click()
        expect(page.locator("[data-notices]")).to_contain_text(
            "Another operation on this container is not finished yet."
        )
    finally:
        running.manage("shell", "-c", CLOSED_OPERATION.format(id=counting))


OPEN_OPERATION = """
from console.operations.models import Operation
from console.workloads.models import Container
one = Container.objects.get(pk="{id}")
Operation.objects.create(tenant=one.tenant, node="elsewhere", kind="stop", container=one, request_key="held-by-a-test")
"""
CLOSED_OPERATION = """
from console.operations.models import Operation
Operation.objects.filter(container_id="{id}", request_key="held-by-a-test").delete()
"""


def test_signing_out_ends_the_other_pages_of_the_session(running: Stack, visit: Visit) -> None:
    member = visit("demo")
    other = member.page.context.new_page()
    other.goto(f"{running.url}containers/")
    _live(other)
    member.page.get_by_role("button", name="Sign out").click()
    expect(other.locator("[name=password]")).to_be_visible(timeout=SOON_MS)


def test_home_follows_what_happens(running: Stack, visit: Visit) -> None:
    page = visit("demo").go("/")
    _live(page)
    expect(page.locator("[data-node=cpu]")).to_contain_text("/", timeout=SOON_MS)
    with running.signed_in("demo") as member:
        member.launch("recipe:busybox", "ends-badly", command="sh -c 'exit 3'")
    attention = page.locator("#home-attention")
    expect(attention).to_contain_text("ends-badly", timeout=LATER_MS)
    expect(page.locator("#home-recent")).to_contain_text("ends-badly")
    attention.locator("li", has_text="ends-badly").get_by_role("link", name="Launch anew, with changes").click()
    expect(page.locator("[name=command]")).to_have_value("sh -c 'exit 3'")


@pytest.mark.parametrize("path", ["/", "/containers/"])
def test_what_happens_before_a_page_is_live_is_seen(running: Stack, visit: Visit, path: str) -> None:
    """Its connection comes a while after what it shows, on a slow line or a busy machine: it stayed as it was until it was loaded anew."""
    page, held = visit("demo").page, list[Route]()
    page.route("**/js/main*.js", lambda route: held.append(route))  # noqa: PLW0108 -- Playwright marks what it calls, which a builtin does not take
    page.goto(running.url.rstrip("/") + path, wait_until="commit")
    expect(page.locator("h1")).to_be_visible()
    name = f"in-between-{len(path)}"
    with running.signed_in("demo") as member:
        member.launch("recipe:busybox", name, command="sh -c 'exit 3'")
    running._until(lambda: (name, "exited") in [(one.name, one.state.value) for one in running.engine.list()], 60, name)
    expect(page.locator("main")).not_to_contain_text(name)
    held[0].continue_()
    _live(page)
    expect(page.locator("main")).to_contain_text(name, timeout=SOON_MS)
