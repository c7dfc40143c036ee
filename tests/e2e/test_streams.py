"""Log and terminal in the browser: searching, pausing, one output alone, a flood, several terminals at once; and the charts' gaps."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visit
from tests.stack import Stack

SOON_MS, LATER_MS = 20_000, 60_000
SPEAKER = "sh -c 'for i in $(seq 1 30); do echo word-$i; echo problem-$i >&2; done; trap exit TERM; while true; do sleep 1 & wait $!; done'"
FLOOD = "sh -c 'trap exit TERM; while true; do seq 1 200000; done'"


@pytest.fixture
def speaker(running: Stack) -> str:
    return _launched(running, "speaker", SPEAKER)


def _launched(running: Stack, name: str, command: str) -> str:
    if name not in running.running():
        with running.signed_in("demo") as member:
            member.launch("recipe:busybox", name, command=command)
        running._until(lambda: name in running.running(), 60, f"running: {name}")
    return next(one.id for one in running.engine.list() if one.name == name)


def test_the_log_is_searched_from_hit_to_hit(visit: Visit, speaker: str) -> None:
    page = visit("demo").go(f"/containers/{speaker}/?tab=logs")
    lines = page.locator(".log-lines > div")
    expect(lines).to_have_count(60, timeout=SOON_MS)
    page.get_by_label("Search the log").fill("WORD-1")
    found = page.locator("[data-log-found]")
    expect(found).to_have_text("11 / 11")  # 1, and 10 to 19; the newest first
    current = page.locator("mark.current")
    expect(current.locator("xpath=..")).to_have_text("word-19")
    page.get_by_role("button", name="Previous hit").click()
    expect(current.locator("xpath=..")).to_have_text("word-18")
    page.get_by_label("Search the log").press("Enter")
    page.get_by_label("Search the log").press("Enter")
    expect(found).to_have_text("1 / 11")
    expect(current.locator("xpath=..")).to_have_text("word-1")
    expect(current).to_be_in_viewport()
    expect(lines.filter(visible=True)).to_have_count(60)
    page.get_by_label("Hits only").check()
    expect(lines.filter(visible=True)).to_have_count(11)
    page.get_by_label("Search the log").fill("")
    page.get_by_label("Hits only").uncheck()
    expect(page.locator("mark")).to_have_count(0)
    page.get_by_label("Which output").select_option("stderr")
    expect(lines.filter(visible=True)).to_have_count(30)
    page.get_by_label("Times").check()
    expect(page.locator(".log-lines .stderr time").first).to_be_visible()


def test_a_flood_leaves_the_page_usable(running: Stack, visit: Visit) -> None:
    """Lines come faster than anybody reads: the page keeps a bounded number, can be paused, and still answers."""
    flood = _launched(running, "flood", FLOOD)
    page = visit("demo").go(f"/containers/{flood}/?tab=logs")
    box, follow = page.locator(".log-lines"), page.locator("[data-log-follow]")
    expect(box.locator("> div:nth-child(2000)")).to_be_attached(timeout=LATER_MS)
    follow.click()
    expect(follow).to_have_attribute("aria-pressed", "false")
    shown = box.inner_text()
    expect(follow).to_contain_text("new lines", timeout=SOON_MS)
    assert box.inner_text() == shown, "what one reads moved on"
    assert 1000 < box.evaluate("box => box.childElementCount") <= 10_000
    follow.click()
    expect(box).not_to_have_text(shown, timeout=SOON_MS)
    assert box.evaluate("box => box.childElementCount") <= 10_000
    page.get_by_role("button", name="Kill").click()
    page.locator("dialog[open]").get_by_role("button", name="Kill").click()
    expect(page.locator("#status")).to_have_attribute("data-state", "exited", timeout=60_000)


def _terminal(page: Page) -> None:
    expect(page.locator(".terminal-pane:not([hidden]) .xterm-rows")).to_contain_text("#", timeout=SOON_MS)
    page.locator(".terminal-pane:not([hidden]) .xterm").click()


def test_terminals_flood_interrupt_several_and_the_end(visit: Visit, speaker: str) -> None:
    errors: list[str] = []
    page = visit("demo").go(f"/containers/{speaker}/?tab=terminal")
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.reload()
    shown = page.locator(".terminal-pane:not([hidden]) .xterm-rows")
    _terminal(page)
    page.keyboard.type("yes\n")
    expect(shown).to_contain_text("y\ny", timeout=SOON_MS, use_inner_text=True)
    page.wait_for_timeout(2000)
    page.keyboard.press("Control+c")
    page.keyboard.type("clear; echo after-$((40+2))\n")
    expect(shown).to_contain_text("after-42", timeout=SOON_MS)

    page.get_by_role("button", name="New terminal").click()
    _terminal(page)
    page.keyboard.type("echo second-$((1+1)); stty size\n")
    expect(shown).to_contain_text("second-2", timeout=SOON_MS)
    expect(page.get_by_role("tab")).to_have_count(2)
    page.keyboard.press("Control+Shift+Escape")
    page.keyboard.press("ArrowLeft")
    expect(shown).to_contain_text("after-42")
    page.get_by_role("button", name="Close terminal 1").click()
    expect(page.get_by_role("tab")).to_have_count(1)

    before = shown.inner_text()
    page.set_viewport_size({"width": 700, "height": 900})
    page.locator(".terminal-pane:not([hidden]) .xterm").click()
    page.keyboard.type("clear; stty size\n")
    expect(shown).not_to_have_text(before, timeout=SOON_MS)
    page.keyboard.type("exit\n")
    expect(shown).to_contain_text("The session ended with exit code 0", timeout=SOON_MS)
    page.keyboard.press("Enter")
    page.keyboard.type("echo third-$((1+2))\n")
    expect(shown).to_contain_text("third-3", timeout=SOON_MS)
    assert errors == []


def test_what_was_not_measured_is_a_gap(visit: Visit, speaker: str) -> None:
    """The table behind the charts, in the browser's own module."""
    page = visit("demo").go(f"/containers/{speaker}/")
    expect(page.locator("[data-chart=memory] [data-now]")).to_contain_text("iB", timeout=SOON_MS)
    table = page.evaluate("""async () => {
        const { Series } = await import('slipway/series')
        const series = new Series()
        const row = value => [value, value, value, value, value, value, value, value]
        for (const [at, value] of [[1000, 1], [1010, 2], [1100, 3], [1100, 9], [1101, 4]]) series.push(at, row(value))
        return { t: series.t, cpu: series.cpu }
    }""")
    assert table == {"t": [1000, 1010, 1011, 1100, 1101], "cpu": [1, 2, None, 3, 4]}
