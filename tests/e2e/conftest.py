"""One stack and one browser for the whole run; a fresh page, signed in, for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.stack import Stack, stack

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OUTSIDER = "outsider"
PASSWORD = "An-0utsider-of-the-demo-tenant"
OTHERS = f"""
from console.accounts import services
from console.accounts.models import Quota, Role, User
Quota.objects.update(containers=200, cpu_millis=200_000, memory_bytes=1 << 40, published_ports=200)  # all tests share the demo tenant
tenant = services.create_tenant(actor=None, name="Others", slug="others")
user = User.objects.create_user(username="{OUTSIDER}", password="{PASSWORD}")
services.add_member(actor=None, tenant=tenant, username="{OUTSIDER}", role=Role.OWNER)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    """Leaves nothing: the end of ``stack`` asserts it."""
    with stack() as made:
        made.manage("shell", "-c", OTHERS)
        made.passwords[OUTSIDER] = PASSWORD
        made.wait_for_image("busybox")
        yield made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "chromium is not installed"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a browser, signed in."""

    page: Page
    stack: Stack

    def go(self, path: str) -> Page:
        self.page.goto(self.stack.url.rstrip("/") + path)
        return self.page

    def launch(self, item: str, name: str, *, command: str = "", timeout_s: float = 60) -> str:
        """By the form, until the container's page says that it runs; returns the container's id."""
        self.go(f"/catalog/launch/?item={item}")
        self.page.locator("[name=name]").fill(name)
        if command:
            self.page.locator("[name=command]").fill(command)
        self.page.locator("main form:has([name=name]) button[type=submit]").first.click()
        return self.container(name, timeout_s)

    def container(self, name: str, timeout_s: float = 60) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for status in self.stack.engine.list():
                if status.name == name and status.state.value == "running":
                    return status.id
            time.sleep(0.1)
        raise AssertionError(f"{name} does not run:\n{self.stack.tail()}")


Visit = Callable[..., Person]


@pytest.fixture
def visit(running: Stack, browser: Browser) -> Iterator[Visit]:
    """``visit("demo")``: a page of a context of their own; keywords go to the context (viewport, locale, color_scheme)."""
    contexts: list[BrowserContext] = []

    def open_page(username: str = "", **options: object) -> Person:
        context = browser.new_context(accept_downloads=True, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        person = Person(page, running)
        if username:
            person.go("/sign-in/")
            page.locator("[name=username]").fill(username)
            page.locator("[name=password]").fill(running.passwords[username])
            page.locator("form:has([name=password]) button[type=submit]").click()
            expect(page).not_to_have_url(running.url.rstrip("/") + "/sign-in/")
        return person

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def pictures() -> Path:
    """SLIPWAY_TEST_SCREENSHOTS, or a folder that nobody keeps."""
    chosen = os.environ.get("SLIPWAY_TEST_SCREENSHOTS")
    folder = Path(chosen) if chosen else Path(tempfile.mkdtemp(prefix="slipway-pictures-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
