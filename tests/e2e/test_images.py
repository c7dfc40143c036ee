"""Images through the console: a private registry from its form to a running container, every mistake as a sentence in both
languages with nothing left behind, and each application of the catalog used as its users would.
"""

from __future__ import annotations

import html
import os
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from runtime.image.recipe import find
from tests import archives
from tests.e2e.conftest import Visit
from tests.kernel.bad_registry import Registry, busybox, layer, registry
from tests.kernel.real_registry import LOGIN, RealRegistry, real_registry
from tests.stack import Session, Stack
from tests.traces import traces

BUILT_IN = ("busybox", "nginx", "redis", "postgresql", "python")
CHINESE = {"Accept-Language": "zh-hans"}


@pytest.fixture(scope="module")
def whole(running: Stack) -> Stack:
    """No build goes on in the background that would make traces of its own."""
    for name in BUILT_IN:
        running.wait_for_image(name)
    ingest = running.home.images / "ingest"
    running._until(lambda: not list(ingest.iterdir()), 60, "clean after the last build")
    return running


@pytest.fixture(scope="module")
def admin(whole: Stack) -> Iterator[Session]:
    with whole.signed_in("admin") as session:
        yield session


@pytest.fixture(scope="module")
def demo(whole: Stack) -> Iterator[Session]:
    with whole.signed_in("demo") as session:
        yield session


@pytest.fixture(scope="module")
def shop(admin: Session) -> Iterator[Registry]:
    """On the node itself, so an admin adds it."""
    with registry() as found:
        _add(admin, found.address)
        yield found


def _add(session: Session, host: str, **more: str) -> None:
    page = session.submit("/catalog/registries/", "host", host=host, **more)
    assert host in page.text


def container_of(session: Session, image: str, name: str, **values: str) -> str:
    """Launched by its reference; returns the container's id."""
    answer = session.submit(f"/catalog/launch/?image={image}", "request_key", name=name, **values)
    found = re.search(r"/containers/([^/]+)/", answer.url.path)
    assert found, answer.text
    return found[1]


def failed(session: Session, container: str) -> tuple[str, str]:
    """What the container's page says of it, in English and in Chinese."""
    deadline = time.monotonic() + 60
    while 'data-operation-state="failed"' not in (page := session.client.get(f"/containers/{container}/").text):
        assert time.monotonic() < deadline, page
        time.sleep(0.1)
    return _notice(page), _notice(session.client.get(f"/containers/{container}/", headers=CHINESE).text)


def _notice(page: str) -> str:
    found = re.search(r'class="notice notice-error">(.*?)</p>', page, re.DOTALL)
    assert found, page
    return found[1].strip()


def gone(session: Session, stack: Stack, container: str) -> None:
    """Removed: it is on the list no more, and its name is free."""
    session.remove(container)
    stack._until(lambda: container not in session.client.get("/containers/").text, 60, f"removed: {container}")


def _denied(shop: Registry) -> str:
    shop.login = ("somebody", "another password")
    return shop.put("private", busybox())


def _vast(shop: Registry) -> str:
    """It says that its layer is larger than any disk here."""
    reference = shop.put("vast", busybox() + b"\0" * 1024)
    for key in [key for key in shop.manifests if key[0] == "vast"]:
        shop.manifests[key] = re.sub(rb'("layers": .*"size": )\d+', rb"\g<1>999999999999", shop.manifests[key])
    return reference


SABOTAGE: dict[str, Callable[[Registry], str]] = {
    "unknown image": lambda shop: f"{shop.address}/nothing:latest",
    "unknown tag": lambda shop: shop.put("known", busybox()).replace(":latest", ":9.9"),
    "denied": _denied,
    "corrupt layer": lambda shop: shop.put("broken", busybox(), blob=b"\x1f\x8b" + os.urandom(4096)),
    "climbing layer": lambda shop: shop.put("climber", layer({"../escaped": b"out"})),
    "wrong digest": lambda shop: shop.put("swapped", busybox() + b"\0" * 512, damage=True),
    "other architecture": lambda shop: shop.put("elsewhere", busybox(), architecture="s390x"),
    "hungry": lambda shop: shop.put("hungry", busybox(), labels={"io.slipway.memory-needed": str(512 << 20)}),
    "full disk": _vast,
    "no such command": lambda shop: shop.put("good", busybox()),
}
"""Each puts an image into the registry that is bad in its way, and returns its reference."""
CASES = {
    "unknown image": ("has no image", "没有镜像"),
    "unknown tag": ("Check the name and the tag", "请检查名称和标签"),
    "denied": ("wants a user name and a password", "要求用户名和密码"),
    "corrupt layer": ("is damaged", "已损坏"),
    "climbing layer": ("leads out of the container", "它指向容器之外"),
    "wrong digest": ("not what its digest says", "摘要"),
    "other architecture": ("is for linux/s390x", "适用于 linux/s390x"),
    "hungry": ("needs at least 512 MiB", "至少需要 512 MiB"),
    "full disk": ("disk is full", "磁盘已满"),
    "no such command": ("has no command", "没有命令"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_image_is_a_sentence_on_the_page_and_leaves_nothing(
    whole: Stack, demo: Session, shop: Registry, case: str
) -> None:
    reference = SABOTAGE[case](shop)
    before = traces(whole.home)
    try:
        values = {"command": "no-such-command"} if case == "no such command" else {}
        container = container_of(demo, reference, case.replace(" ", "-"), **values)
        english, chinese = failed(demo, container)
    finally:
        shop.login = None
    assert CASES[case][0] in english
    assert CASES[case][1] in chinese
    assert not re.search(r"Traceback|Errno|/var/tmp", english)
    assert not re.search("[a-z]{3,} [a-z]{3,} [a-z]{3,}", chinese), "all of it is in Chinese"
    left = traces(whole.home).new_since(before)
    if case in {"hungry", "no such command"}:  # the image is good, and stays
        left.pop("files", None)
    assert left == {}
    gone(demo, whole, container)
    assert not list(Path(whole.home.root).rglob("escaped"))


@pytest.mark.parametrize("button", ["Cancel", "Remove"])
def test_a_launch_that_takes_long_is_cancelled_and_leaves_nothing(
    whole: Stack, demo: Session, shop: Registry, visit: Visit, button: str
) -> None:
    before = traces(whole.home)
    shop.login = None
    page = visit("demo").page
    shop.slow = True  # a minute for ten megabytes
    try:
        image = shop.put(f"slow-{button.lower()}", busybox(), blob=os.urandom(10 << 20))
        container = container_of(demo, image, f"slow-{button.lower()}")
        page.goto(f"{whole.url}containers/{container}/")
        expect(page.locator("#status")).to_contain_text("Downloading", timeout=20_000)
        page.get_by_role("button", name=button, exact=True).click()
        if button == "Cancel":
            expect(page.locator("#status")).to_contain_text("It was cancelled.", timeout=20_000)
            gone(demo, whole, container)
        else:
            page.wait_for_timeout(1500)  # the page goes on telling how far it is, under the question
            page.locator("dialog[open]").get_by_role("button", name="Remove").click()
            whole._until(lambda: container not in demo.client.get("/containers/").text, 20, f"removed: {container}")
    finally:
        shop.slow = False
    assert traces(whole.home) == before


def test_a_registry_that_is_down_is_said_so(whole: Stack, admin: Session, demo: Session) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        _add(admin, address)
        before = traces(whole.home)
        container = container_of(demo, f"{address}/any", "nobody-there")
        english, chinese = failed(demo, container)
    assert "cannot be reached" in english
    assert "无法连接" in chinese
    assert traces(whole.home).new_since(before) == {}
    gone(demo, whole, container)


def test_a_tenants_own_reference_into_the_node_is_refused(whole: Stack, demo: Session) -> None:
    """Nobody with the node's say has added it; the service behind the address is not asked."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        service.settimeout(0)
        container = container_of(demo, f"127.0.0.1:{service.getsockname()[1]}/any", "inwards")
        english, chinese = failed(demo, container)
        with pytest.raises(BlockingIOError):
            service.accept()
    assert "on the node itself" in english
    assert "位于节点自身" in chinese
    gone(demo, whole, container)


# ------------------------------------------------------------------------------------------------ a private registry


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("private") / "registry", private=True) as found:
        found.push("team/box:1", archives.busybox())
        yield found


def test_from_a_private_registrys_form_to_a_running_container(
    whole: Stack, admin: Session, demo: Session, private: RealRegistry
) -> None:
    """With the wrong password first: it is said, corrected on the same page, and the same entry then runs."""
    _add(admin, private.address, username=LOGIN[0], password="open barley")
    page = admin.client.get("/catalog/registries/").text
    chosen = re.findall(rf'<option value="([^"]+)"[^>]*>\s*{re.escape(private.address)}\s*<', page)
    page = admin.submit(
        "/catalog/registries/", "title", title="Our box", name="team/box", tag="1", registry=chosen[0]
    ).text
    assert "Our box" in page
    item = re.search(r"item=(repository(?::|%3A)[a-z0-9]+)", demo.client.get("/catalog/").text)
    assert item
    command = "sleep 100000"
    answer = demo.submit(f"/catalog/launch/?item={item[1]}", "request_key", name="ours", command=command)
    container = answer.url.path.split("/")[2]
    english, chinese = failed(demo, container)
    assert "refused the user name or the password" in english
    assert "拒绝了用户名或密码" in chinese
    gone(demo, whole, container)
    path = f"/catalog/registries/{chosen[0]}/credentials/"
    assert admin.post(path, username=LOGIN[0], password=LOGIN[1]).status_code == 200
    demo.submit(f"/catalog/launch/?item={item[1]}", "request_key", name="ours", command=command)
    whole._until(lambda: "ours" in whole.running(), 60, "running: ours")


# ------------------------------------------------------------------------------------------------ the catalog


def test_python_serves_http(whole: Stack, demo: Session) -> None:
    demo.launch("recipe:python", "script")
    whole._until(lambda: "script" in whole.running(), 60, "running: script")
    port = next(one.ports[0].host_port for one in whole.engine.list() if one.name == "script")
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("slug", BUILT_IN)
def test_each_entry_says_what_it_is_in_the_readers_language(demo: Session, slug: str, language: str) -> None:
    """What it is in the catalog; its port, its limits and what each variable means in the launch form."""
    known = find(slug)
    headers = {"Accept-Language": language}
    page = html.unescape(demo.client.get("/catalog/", headers=headers).text)
    form = html.unescape(demo.client.get(f"/catalog/launch/?item=recipe:{slug}", headers=headers).text)
    assert known.summary[language] in page
    assert known.description[language] in page + form
    assert all(tag in page for tag in known.tags)
    for port in known.ports:
        assert f'name="container_port" value="{port.port}"' in form
    assert f'name="memory" value="{known.memory_bytes >> 20}"' in form
    for variable in known.environment:
        assert (variable.help or {})[language] in form
    icon = demo.client.get(f"/catalog/icons/{slug}.svg")
    assert icon.headers["Content-Type"] == "image/svg+xml"
    assert "<script" not in icon.text
