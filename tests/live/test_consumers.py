"""Every WebSocket, for a member, a viewer, an outsider and a stranger; and what a page is told."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio as redis
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from console.accounts import services
from console.accounts.models import AuditEvent, Membership, Role, Tenant, User
from console.live import frames
from console.live.agent.sampling import LAST, METRICS
from console.live.consumers import base, streams
from console.live.consumers.pages import TenantConsumer
from console.live.hub import Hub, Subscriber
from console.live.origin import allowed
from console.live.routing import websocket_urlpatterns
from console.workloads.models import Container
from tests.live.websocket import WebsocketCommunicator

pytestmark = pytest.mark.django_db(transaction=True)
DOORS = [
    "ws/tenant/{tenant}/",
    "ws/containers/{container}/",
    "ws/containers/{container}/logs/",
    "ws/containers/{container}/terminal/",
]


@pytest.fixture(autouse=True)
def no_agent(settings: object, tmp_path: object) -> None:
    settings.AGENT_SOCKET = f"{tmp_path}/nobody.sock"  # type: ignore[attr-defined]
    settings.METRICS_REDIS_URL = f"unix://{tmp_path}/nobody.sock?db=3"  # type: ignore[attr-defined]


@pytest.fixture
def container(tenant: Tenant) -> Container:
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1, cpu_millis=1, state="running"
    )


def opened(path: str, user: User | AnonymousUser) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(URLRouter(websocket_urlpatterns), path)
    communicator.scope["user"] = user
    return communicator


async def outcome(path: str, user: User | AnonymousUser) -> int | str:
    """The code of the refusal, or the type of the first frame."""
    page = opened(path, user)
    assert (await page.connect())[0]
    if path.endswith(("logs/", "terminal/")):
        await page.send_json_to({"tail": 1})
    try:
        first = await page.receive_output(timeout=5)
        return int(first["code"]) if first["type"] == "websocket.close" else str(json.loads(first["text"])["type"])
    finally:
        await page.disconnect()


async def closing_code(page: WebsocketCommunicator) -> int:
    """Of the close that comes next, whatever is said before it."""
    while True:
        output = await page.receive_output(timeout=5)
        if output["type"] == "websocket.close":
            return int(output["code"])


@pytest.mark.parametrize("door", DOORS)
async def test_who_is_let_in(member: User, outsider: User, admin: User, container: Container, door: str) -> None:
    path = door.format(tenant=container.tenant_id, container=container.id)
    assert await outcome(path, outsider) == base.UNKNOWN
    assert await outcome(path, AnonymousUser()) == base.ANONYMOUS
    expected = "snapshot" if "tenant" in door else "error"  # the agent is away: told, not hidden
    assert await outcome(path, member) == expected
    assert await outcome(path, admin) == expected


async def test_a_viewer_watches_and_does_not_type(viewer: User, container: Container) -> None:
    assert await outcome(f"ws/tenant/{container.tenant_id}/", viewer) == "snapshot"
    assert await outcome(f"ws/containers/{container.id}/logs/", viewer) == "error"
    assert await outcome(f"ws/containers/{container.id}/terminal/", viewer) == base.FORBIDDEN


async def test_the_node_is_for_whoever_is_signed_in() -> None:
    assert await outcome("ws/node/", AnonymousUser()) == base.ANONYMOUS


async def test_a_stale_page_catches_up_by_events(member: User, container: Container) -> None:
    """The snapshot's number, then events with the next ones: applied, they are what a fresh snapshot says."""
    from console.core.live import announce

    page = opened(f"ws/tenant/{container.tenant_id}/", member)
    await page.connect()
    first = await page.receive_json_from()
    assert first["containers"] == {container.id: "running"}

    def stop() -> None:
        Container.objects.filter(pk=container.pk).update(state="exited")
        announce(container.tenant_id, "container", container.id, state="exited")

    await database_sync_to_async(stop)()
    event = (await page.receive_json_from())["event"]
    assert event["seq"] == first["seq"] + 1
    await page.send_json_to({"snapshot": True})
    fresh = await page.receive_json_from()
    assert fresh["seq"] == event["seq"]
    assert fresh["containers"] == {event["id"]: event["state"]}
    await page.disconnect()


async def test_another_tenants_events_are_not_heard(outsider: User, container: Container) -> None:
    theirs = await database_sync_to_async(lambda: Tenant.objects.get(slug="other"))()
    page = opened(f"ws/tenant/{theirs.id}/", outsider)
    await page.connect()
    await page.receive_json_from()
    await get_channel_layer().group_send(
        f"tenant.{container.tenant_id}", {"type": "tenant.event", "event": {"id": container.id}}
    )
    assert await page.receive_nothing(timeout=0.3)
    await page.disconnect()


@pytest.mark.parametrize("text", ["garbage", "[]", "5", '"x"', "[" * 100000])
async def test_garbage_from_a_browser_is_an_error_frame(member: User, container: Container, text: str) -> None:
    page = opened(f"ws/tenant/{container.tenant_id}/", member)
    await page.connect()
    await page.receive_json_from()
    await page.send_to(text_data=text)
    assert (await page.receive_json_from())["type"] == "error"
    await page.disconnect()


async def test_a_member_who_was_removed_is_put_out(
    member: User, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "RECHECK_S", 0.05)
    page = opened(f"ws/tenant/{container.tenant_id}/", member)
    await page.connect()
    await page.receive_json_from()
    await database_sync_to_async(Membership.objects.all().delete)()
    assert (await page.receive_output(timeout=5))["code"] == base.UNKNOWN


async def put_out(page: WebsocketCommunicator) -> int:
    """The code it is closed with, whatever is told before."""
    while (last := await page.receive_output(timeout=5))["type"] != "websocket.close":
        pass
    return int(last["code"])


@pytest.mark.parametrize("why", ["deactivated", "new password", "signed out"])
async def test_who_is_signed_in_no_more_is_put_out_of_a_terminal(
    member: User, container: Container, settings: object, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """And what they type after that reaches nobody, though their side of the connection stays open."""
    monkeypatch.setattr(streams, "TERMINAL_RECHECK_S", 0.05)
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok": true}\n')
        while content := await reader.read(1000):
            heard.put_nowait(content)
        heard.put_nowait(b"")
        writer.close()

    def end(session: SessionStore) -> None:
        if why == "deactivated":
            User.objects.update(is_active=False)
        elif why == "new password":
            member.set_password("another")
            member.save()
        else:
            session.delete()

    session = SessionStore()
    await database_sync_to_async(session.create)()
    async with await asyncio.start_unix_server(agent, settings.AGENT_SOCKET):  # type: ignore[attr-defined]
        page = opened(f"ws/containers/{container.id}/terminal/", await database_sync_to_async(User.objects.get)())
        page.scope["session"] = session
        await page.connect()
        await page.send_json_to({"columns": 80, "rows": 24})
        assert (await page.receive_json_from())["type"] == "open"
        await database_sync_to_async(end)(session)
        assert await put_out(page) == base.ANONYMOUS
        await page.send_input({"type": "websocket.receive", "bytes": b"rm -rf /"})
        assert await asyncio.wait_for(heard.get(), 5) == b""
        await page.disconnect()


async def test_who_opens_a_terminal_is_in_the_audit_log(member: User, container: Container) -> None:
    page = opened(f"ws/containers/{container.id}/terminal/", member)
    page.scope["client"] = ("192.0.2.9", 1234)
    await page.connect()
    await page.disconnect()
    event = await database_sync_to_async(AuditEvent.objects.get)()
    assert (event.verb, event.user_id, event.target, event.address) == (
        "container.terminal", member.pk, container.id, "192.0.2.9",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("origin", "host", "let_in"),
    [
        ("http://node:8000", "node:8000", True),
        ("http://node", "node:80", True),
        ("https://node", "node", True),
        ("https://console.example.org", "inner:8000", True),
        ("http://node:8080", "node:8000", False),
        ("http://node:8000.evil.example", "node:8000", False),
        ("https://node", "node:80", False),
        ("null", "node:8000", False),
        ("", "", False),
        ("http://node:x", "node:x", False),
        ("file://", "node:8000", False),
    ],
)
def test_a_page_that_a_container_serves_opens_no_socket(settings: object, origin: str, host: str, let_in: bool) -> None:
    """Its port is another, and the browser sends the same cookies there."""
    settings.CSRF_TRUSTED_ORIGINS = ["https://console.example.org"]  # type: ignore[attr-defined]
    assert allowed({b"origin": origin.encode(), b"host": host.encode()}) is let_in


async def test_the_application_asks_where_a_socket_comes_from() -> None:
    from console.asgi import application

    for origin, accepted in ((b"http://localhost:8000", True), (b"http://localhost:8080", False)):
        page = WebsocketCommunicator(application, "ws/node/")
        page.scope["headers"] = [(b"origin", origin), (b"host", b"localhost:8000")]
        assert (await page.connect())[0] is accepted
        await page.disconnect()


@pytest.mark.parametrize("door", DOORS)
async def test_whoever_is_removed_or_made_a_viewer_is_put_out_at_once(
    owner: User, member: User, container: Container, door: str
) -> None:
    """Not at the next regular check: the services tell open pages."""
    page = opened(door.format(tenant=container.tenant_id, container=container.id), member)
    await page.connect()
    tenant = container.tenant
    terminal = door.endswith("terminal/")
    if terminal:
        await database_sync_to_async(services.change_role)(
            actor=owner, tenant=tenant, username=member.username, role=Role.VIEWER
        )
    else:
        await database_sync_to_async(services.remove_member)(actor=owner, tenant=tenant, username=member.username)
    assert await closing_code(page) == (base.FORBIDDEN if terminal else base.UNKNOWN)


async def test_signing_out_closes_what_is_open(member: User, container: Container) -> None:
    browser = Client()
    await database_sync_to_async(browser.force_login)(member)
    page = opened(f"ws/tenant/{container.tenant_id}/", member)
    page.scope["session"] = browser.session
    other = opened(f"ws/tenant/{container.tenant_id}/", member)
    other.scope["session"] = await database_sync_to_async(_session_of)(member)
    for one in (page, other):
        await one.connect()
        await one.receive_json_from()
    await database_sync_to_async(browser.post)("/sign-out/")
    assert await closing_code(page) == base.ANONYMOUS
    assert await other.receive_nothing(timeout=0.3), "another session of the same person stays"
    await other.disconnect()


async def test_a_new_password_ends_the_other_sessions(member: User, container: Container) -> None:
    elsewhere = opened(f"ws/tenant/{container.tenant_id}/", member)
    elsewhere.scope["session"] = await database_sync_to_async(_session_of)(member)
    await elsewhere.connect()
    await elsewhere.receive_json_from()

    def change() -> None:
        browser = Client()
        browser.force_login(member)
        new = "a-quite-different-word-9"
        form = {"old_password": member.username, "new_password1": new, "new_password2": new}
        assert browser.post("/settings/", form).status_code == 302

    await database_sync_to_async(change)()
    assert await closing_code(elsewhere) == base.ANONYMOUS


def _session_of(user: User) -> object:
    browser = Client()
    browser.force_login(user)
    return browser.session


async def test_a_pulse_tells_a_page_of_the_event_that_it_missed(
    member: User, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker was away when it was sent."""
    from console.core import live

    monkeypatch.setattr(base, "PULSE_S", 0.2)
    page = opened(f"ws/tenant/{container.tenant_id}/", member)
    await page.connect()
    first = await page.receive_json_from()
    monkeypatch.setattr(live, "get_channel_layer", lambda: None)
    await database_sync_to_async(live.announce)(container.tenant_id, "container", container.id, state="exited")
    while (pulse := await page.receive_json_from())["seq"] == first["seq"]:
        assert pulse["type"] == "pulse"
    assert pulse == {"type": "pulse", "seq": first["seq"] + 1}
    await page.disconnect()


async def test_a_browser_that_leaves_in_mid_sentence_is_no_error(
    member: User, container: Container, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "PULSE_S", 0.05)
    said: list[str] = []

    async def gone(self: object, message: dict[str, object]) -> None:
        said.append(str(message["type"]))
        if message["type"] == "websocket.send":
            raise ConnectionResetError

    consumer = TenantConsumer()
    consumer.base_send = partial(gone, consumer)
    consumer._tasks = set()
    consumer.tenant = container.tenant
    consumer.spawn(consumer._pulse())
    async with asyncio.timeout(10):
        while said.count("websocket.send") < 3:  # it goes on
            await asyncio.sleep(0.02)
    assert "a live page's task failed" not in caplog.text
    for task in consumer._tasks:
        task.cancel()


async def test_a_slow_reader_is_dropped_back_and_told() -> None:
    subscriber = Subscriber()
    for number in range(200):
        subscriber.put(str(number))
    frame, dropped = await subscriber.get()
    assert dropped + int(subscriber._queue.qsize()) + 1 == 200
    assert dropped > 0
    assert int(frame) == dropped


async def test_a_hub_outlives_a_missing_redis(tmp_path: object) -> None:
    hub = Hub(f"unix://{tmp_path}/nobody.sock?db=3")
    subscriber = hub.join("slipway:metrics:t1")
    await asyncio.sleep(0.2)
    assert hub._task is not None
    assert not hub._task.done()
    hub.leave("slipway:metrics:t1", subscriber)
    hub._task.cancel()


async def test_a_newcomer_gets_the_last_figures_and_then_the_next(tmp_path: Path) -> None:
    """From a real Redis: the page that opens between two ticks does not stand empty."""
    socket = tmp_path / "redis.sock"
    words = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    server = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            while not socket.exists():
                await asyncio.sleep(0.02)
        agent = redis.from_url(f"unix://{socket}?db=3")
        await agent.set(f"{LAST}{METRICS}t1", "the last")
        hub = Hub(f"unix://{socket}?db=3")
        subscriber = hub.join(f"{METRICS}t1")
        async with asyncio.timeout(5):
            assert await subscriber.get() == ("the last", 0)
            await agent.publish(f"{METRICS}t1", "the next")
            assert await subscriber.get() == ("the next", 0)
        hub.leave(f"{METRICS}t1", subscriber)
        await agent.aclose()
    finally:
        server.terminate()
        await server.wait()


async def test_what_is_typed_before_the_terminal_is_open_arrives_in_order(
    member: User, container: Container, settings: object
) -> None:
    """The agent takes its time; a person does not wait for it."""
    heard: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await asyncio.sleep(0.3)
        writer.write(b'{"ok": true}\n')
        for _ in range(4):
            heard.put_nowait(await frames.read_frame(reader))
        writer.close()

    path = settings.AGENT_SOCKET  # type: ignore[attr-defined]
    async with await asyncio.start_unix_server(agent, path):
        page = opened(f"ws/containers/{container.id}/terminal/", member)
        await page.connect()
        await page.send_json_to({"columns": 80, "rows": 24})
        await page.send_input({"type": "websocket.receive", "bytes": b"e"})
        await page.send_input({"type": "websocket.receive", "bytes": b"ch"})
        await page.send_json_to({"resize": [90, 30]})
        await page.send_input({"type": "websocket.receive", "bytes": b"o"})
        frames_heard = [await asyncio.wait_for(heard.get(), 5) for _ in range(4)]
        assert [payload for kind, payload in frames_heard if kind == frames.DATA] == [b"e", b"ch", b"o"]
        assert frames.parse_line(frames_heard[2][1]) == {"resize": [90, 30]}
        await page.disconnect()


async def test_a_log_page_gets_no_more_than_it_takes(member: User, container: Container, settings: object) -> None:
    sent = 0

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readline()
        writer.write(b'{"ok": true}\n')
        for number in range(1000):
            rows = [["2026-01-02T03:04:05.000000000Z", "stdout", f"{number} " + "x" * 8000, False]]
            writer.write(frames.frame(frames.DATA, json.dumps(rows).encode()))
            await writer.drain()
            sent += 1

    async def batches(page: WebsocketCommunicator) -> int:
        count = 0
        while not await page.receive_nothing(timeout=0.3):
            count += (await page.receive_json_from())["type"] == "lines"
        return count

    async with await asyncio.start_unix_server(agent, settings.AGENT_SOCKET):  # type: ignore[attr-defined]
        page = opened(f"ws/containers/{container.id}/logs/", member)
        await page.connect()
        await page.send_json_to({"tail": 1, "follow": True, "acknowledge": True})
        assert await batches(page) == streams.MOST_AHEAD
        await page.send_json_to({"taken": 3})
        assert await batches(page) == 3
        await page.send_json_to({"taken": "many"})
        assert await batches(page) == 0
        assert sent < 500, "the agent is not held back"
        await page.disconnect()
