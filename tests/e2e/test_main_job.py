"""The main job in a real browser: from signing in to the bill, with nginx of the catalog and a real HTTP client."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable

import httpx
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Person, Visit
from tests.stack import Stack

LIVE_MS = 20_000


def published(running: Stack, container: str) -> int:
    ports = running.engine.inspect(container).ports
    assert ports, "no port is published"
    assert ports[0].host_port is not None
    return ports[0].host_port


def until(true: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_from_catalog_to_bill(running: Stack, visit: Visit) -> None:
    running.wait_for_image("nginx")
    member = visit("demo")
    member.go("/catalog/").get_by_text("nginx").first.wait_for()
    container = member.launch("recipe:nginx", "web")
    url = f"http://127.0.0.1:{published(running, container)}/"
    with httpx.Client() as client:
        until(lambda: _welcomes(client, url))
        _figures_move(member, container, lambda: client.get(url))
    client_path = "/seen-by-the-log"
    httpx.get(url + client_path.lstrip("/"))
    _logs_show(member, container, client_path)
    _terminal_answers(member, container)
    _stop_and_remove(member, running, container)
    _bill_has(visit("admin"), container)


def _welcomes(client: httpx.Client, url: str) -> bool:
    try:
        answer = client.get(url)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and "nginx" in answer.text


def _figures_move(member: Person, container: str, load: Callable[[], object]) -> None:
    """What the person reads changes while requests come in."""
    page = member.go(f"/containers/{container}/")
    expect(page.locator("canvas").first).to_be_visible(timeout=LIVE_MS)
    expect(page.locator("[data-chart=cpu] [data-now]")).not_to_be_empty(timeout=LIVE_MS)
    seen = set()
    deadline = time.monotonic() + 20
    while len(seen) < 3 and time.monotonic() < deadline:
        for _ in range(50):
            load()
        seen.add(page.locator("[data-chart=network] [data-now]").inner_text())
        page.wait_for_timeout(1000)
    assert len(seen) >= 3, "the page's figures stand still under load"


def _logs_show(member: Person, container: str, text: str) -> None:
    page = member.go(f"/containers/{container}/")
    page.get_by_role("link", name="Logs", exact=True).click()
    expect(page.get_by_text(text).first).to_be_visible(timeout=LIVE_MS)


def _terminal_answers(member: Person, container: str) -> None:
    """The answer is not in what was typed: the shell has computed it."""
    page = member.go(f"/containers/{container}/")
    page.get_by_role("link", name="Terminal", exact=True).click()
    terminal = page.locator(".xterm").first
    terminal.wait_for()
    terminal.click()
    page.keyboard.type("echo answer-$((6*7))\n")
    expect(page.locator(".xterm-rows, .xterm-accessibility").first).to_contain_text("answer-42", timeout=LIVE_MS)


def _confirmed(page: Page, name: str) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=name, exact=True).first.click()
    confirm = page.locator("dialog[open], .modal.show").get_by_role("button", name=name)
    if confirm.count():
        confirm.first.click()


def _stop_and_remove(member: Person, running: Stack, container: str) -> None:
    page = member.go(f"/containers/{container}/")
    _confirmed(page, "Stop")
    until(lambda: running.engine.inspect(container).state.value == "exited", 40)
    page = member.go(f"/containers/{container}/")
    _confirmed(page, "Remove")
    until(lambda: all(one.id != container for one in running.engine.list()), 40)


def _bill_has(admin: Person, container: str) -> None:
    """CSV and JSON say the same of the container, and it used a processor."""
    answer = admin.page.request.get(admin.stack.url + "usage/export.csv?all=1")
    assert answer.ok
    lines = [row for row in csv.DictReader(io.StringIO(answer.text())) if container in row.values()]
    assert lines
    answer = admin.page.request.get(admin.stack.url + "usage/export.json?all=1")
    assert answer.ok
    text = json.dumps(answer.json())
    assert container in text
    seconds = [float(value) for row in lines for name, value in row.items() if "cpu" in name.lower() and value]
    assert any(value > 0 for value in seconds)


def test_a_double_click_launches_once(running: Stack, visit: Visit) -> None:
    member = visit("demo")
    page = member.go("/catalog/launch/?item=recipe:busybox")
    page.locator("[name=name]").fill("once")
    page.locator("[name=command]").fill("sleep 100000")
    page.locator("form:has([name=name]) button[type=submit]").first.dblclick()
    member.container("once")
    page.wait_for_timeout(2000)
    assert [one.name for one in running.engine.list()].count("once") == 1


def test_closing_the_page_in_mid_launch_loses_nothing(running: Stack, visit: Visit) -> None:
    member = visit("demo")
    page = member.go("/catalog/launch/?item=recipe:busybox")
    page.locator("[name=name]").fill("closed")
    page.locator("[name=command]").fill("sleep 100000")
    page.locator("form:has([name=name]) button[type=submit]").first.click(no_wait_after=True)
    page.wait_for_url(lambda url: "/launch/" not in url, wait_until="commit")
    page.goto("about:blank")  # as closing is to the server; of what it just shows Chromium's now and then never ends
    page.context.close()
    container = member.container("closed")
    again = visit("demo")
    page = again.go("/containers/")
    expect(page.get_by_text("closed").first).to_be_visible()
    page.reload()
    expect(page.get_by_text("closed").first).to_be_visible()
    assert running.engine.inspect(container).state.value == "running"
