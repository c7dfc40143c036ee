"""Another tenant's owner is refused at every door of a container that is not theirs, by its URL."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.e2e.conftest import OUTSIDER
from tests.stack import Session, Stack

READS = ["", "status/", "configuration/", "events/", "isolation/", "logs/download/"]
DEEDS = ["start", "stop", "restart", "kill", "remove"]
SOCKETS = ["", "logs/", "terminal/"]


@pytest.fixture(scope="module")
def container(running: Stack) -> str:
    with running.signed_in("demo") as member:
        member.launch("recipe:busybox", "guarded", command="sleep 100000")
    running._until(lambda: "guarded" in running.running(), 60, "running: guarded")
    return next(one.id for one in running.engine.list() if one.name == "guarded")


@pytest.fixture(scope="module")
def outsider(running: Stack) -> Iterator[Session]:
    with running.signed_in(OUTSIDER) as session:
        yield session


@pytest.fixture(scope="module")
def member(running: Stack) -> Iterator[Session]:
    with running.signed_in("demo") as session:
        yield session


@pytest.mark.parametrize("door", READS)
def test_pages_and_partials(member: Session, outsider: Session, container: str, door: str) -> None:
    """404, as if it did not exist; and the door is real: its owner passes."""
    assert member.client.get(f"/containers/{container}/{door}").status_code == 200
    answer = outsider.client.get(f"/containers/{container}/{door}")
    assert answer.status_code == 404
    assert "guarded" not in answer.text


@pytest.mark.parametrize("deed", DEEDS)
def test_posts(running: Stack, outsider: Session, container: str, deed: str) -> None:
    outsider.client.get("/containers/")
    before = running.engine.inspect(container)
    assert outsider.post(f"/containers/{container}/{deed}/", request_key=f"outsider-{deed}").status_code == 404
    assert running.engine.inspect(container) == before


def test_lists_and_exports(outsider: Session, container: str) -> None:
    for path in ("/containers/", "/containers/rows/", "/operations/", "/usage/export.csv", "/usage/export.json"):
        answer = outsider.client.get(path)
        assert answer.status_code == 200
        assert container not in answer.text
        assert "guarded" not in answer.text


def _socket(running: Stack, session: Session, path: str) -> str:
    """The first frame, or why there is none."""
    cookies = "; ".join(f"{name}={value}" for name, value in session.client.cookies.items())
    headers = {"Cookie": cookies}
    address = urlsplit(running.url)
    origin = f"{address.scheme}://{address.netloc}"
    try:
        with connect(f"ws://{address.netloc}/{path}", additional_headers=headers, origin=origin) as opened:  # type: ignore[arg-type]
            if path.endswith("logs/"):
                opened.send('{"tail": 1, "follow": true}')
            return str(opened.recv(timeout=10))
    except InvalidStatus as refusal:
        return f"refused {refusal.response.status_code}"
    except ConnectionClosed as closed:
        return f"refused {closed.rcvd.code if closed.rcvd else ''}"


@pytest.mark.parametrize("path", SOCKETS)
def test_web_sockets(running: Stack, outsider: Session, container: str, path: str) -> None:
    assert _socket(running, outsider, f"ws/containers/{container}/{path}").startswith("refused")


def test_the_same_web_socket_opens_for_a_member(running: Stack, member: Session, container: str) -> None:
    assert not _socket(running, member, f"ws/containers/{container}/").startswith("refused")


def test_the_tenants_web_socket(running: Stack, outsider: Session, container: str) -> None:
    tenant = running.engine.inspect(container).tenant
    assert _socket(running, outsider, f"ws/tenant/{tenant}/").startswith("refused")


@pytest.mark.parametrize("path", ["/admin/tenants/", "/admin/usage/"])
def test_the_admins_pages(running: Stack, outsider: Session, path: str) -> None:
    assert outsider.client.get(path).status_code in (403, 404)
    with running.signed_in("admin") as admin:
        assert admin.client.get(path).status_code == 200
