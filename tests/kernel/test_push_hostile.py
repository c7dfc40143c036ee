"""Registries that mean harm to who pushes, or are merely odd: where they want content sent, what they count, how slowly they take it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from runtime.api import Credentials, Engine
from runtime.errors import ImageDenied, ImageUnavailable, ImageUnsuitable, RuntimeFault
from runtime.image import push as pushing
from runtime.image import reach, transport, upload
from tests import archives
from tests.kernel.images import engine, home, noise
from tests.kernel.upload_registry import Answer, Shelf, shelf
from tests.marks import files_only

__all__ = ["engine", "home"]
pytestmark = [pytest.mark.root, files_only]
LOGIN = Credentials("somebody", "secret-password")


@pytest.fixture
def image(engine: Engine, tmp_path: Path) -> str:
    archive = archives.write(tmp_path / "image.tar", layers=[noise(1, 1 << 20)])
    return engine.load(archive, reference="test/loaded")[0].id


@pytest.fixture
def shop() -> Iterator[Shelf]:
    with shelf() as running:
        yield running


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry, by the name localhost, is public; every address by number is the node's."""
    real = reach.Reach._meet

    def meet(self: reach.Reach, url: object, address: str) -> None:
        if getattr(url, "host", "") == "localhost":
            self._found = reach.PUBLIC
            return
        real(self, url, address)  # type: ignore[arg-type]

    monkeypatch.setattr(reach.Reach, "_meet", meet)


def test_it_arrives_whole_and_the_manifest_last(engine: Engine, image: str, shop: Shelf) -> None:
    engine.image_service.push(image, f"{shop.address}/app:v1")
    assert digest(shop.manifests["v1"]) == image
    assert all(digest(content) == name for name, content in shop.blobs.items())
    manifest = json.loads(shop.manifests["v1"])
    assert set(shop.blobs) == {manifest["config"]["digest"], manifest["layers"][0]["digest"]}
    assert shop.asked[-1][:2] == ("PUT", "/v2/app/manifests/v1")


def test_a_broken_upload_goes_on_where_the_registry_says_that_it_was(
    engine: Engine, image: str, shop: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PIECE", 256 << 10)
    shop.cut_patch_after = [100_000, 5_000, 120_000]
    engine.image_service.push(image, f"{shop.address}/app")
    size = engine.image(image).size
    sent = sum(length for method, _, length in shop.asked if method == "PATCH")
    last = [length for method, path, length in shop.asked if method == "PUT" and "/uploads/" in path]
    assert sent + sum(last) < size + 10_000, "no byte that was over went twice"
    assert digest(shop.manifests["latest"]) == image


def test_larger_pieces_are_sent_where_a_registry_wants_them(
    engine: Engine, image: str, shop: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PIECE", 1000)

    def instead(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        if method != "POST":
            return None
        code, said, body = shop.answer(method, path, headers, b"")
        return code, {**said, "OCI-Chunk-Min-Length": str(600_000)}, body

    shop.instead = instead
    engine.image_service.push(image, f"{shop.address}/app")
    assert max(length for method, _, length in shop.asked if method == "PATCH") == 600_000


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_no_upload_is_led_into_the_node(
    engine: Engine, image: str, shop: Shelf, outside: None, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(upload, "PIECE", 256 << 10)
    with shelf() as inside:
        host = f"http://{inside.address}/v2/app/blobs/uploads/u0"

        def instead(said: str, path: str, headers: Mapping[str, str]) -> Answer | None:
            return (202, {"Location": host, "Range": "0-262143"}, b"") if said == method else None

        shop.instead = instead
        with pytest.raises(ImageDenied, match="inside the node"):
            engine.image_service.push(image, f"localhost:{shop.address.partition(':')[2]}/app", insecure=True)
        assert inside.asked == []


def test_a_tenants_registry_on_the_node_is_not_pushed_to(engine: Engine, image: str, shop: Shelf) -> None:
    with pytest.raises(ImageDenied, match="on the node itself"):
        engine.image_service.push(image, f"{shop.address}/app", confined=True)
    assert shop.asked == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_upload_is_not_redirected(engine: Engine, image: str, shop: Shelf, method: str, status: int) -> None:
    with shelf() as other:
        shop.instead = lambda said, path, _: (
            (status, {"Location": f"http://{other.address}{path}"}, b"") if said == method else None
        )
        with pytest.raises(ImageUnavailable, match="sends an upload on"):
            engine.image_service.push(image, f"{shop.address}/app")
        assert other.asked == []


def test_the_password_stays_at_the_registry_when_content_goes_elsewhere(
    engine: Engine, image: str, shop: Shelf
) -> None:
    with shelf() as store:
        store.uploads["elsewhere"] = bytearray()

        def instead(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
            if "authorization" not in headers:
                return 401, {"WWW-Authenticate": 'Basic realm="test"'}, b""
            target = f"http://localhost:{store.address.partition(':')[2]}/v2/app/blobs/uploads/elsewhere"
            return (202, {"Location": target}, b"") if method == "POST" else None

        shop.instead = instead
        store.instead = lambda *_: (201, {}, b"")
        engine.image_service.push(image, f"{shop.address}/app", credentials=LOGIN)
        assert sum(length for _, _, length in store.asked) > 1 << 20
        assert not [headers for headers in store.headers if "authorization" in headers]


def test_it_signs_in_to_push_and_to_read_what_may_be_mounted(engine: Engine, image: str, shop: Shelf) -> None:
    scopes: list[list[str]] = []

    def instead(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        if path.startswith("/token"):
            scopes.append(parse_qs(urlsplit(path).query)["scope"])
            return 200, {}, b'{"token": "good"}'
        if headers.get("authorization") != "Bearer good":
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{shop.address}/token",service="x"'}, b""
        return None

    shop.instead = instead
    engine.image_service.push(image, f"{shop.address}/app", credentials=LOGIN)
    assert scopes
    assert all(asked == ["repository:app:pull,push"] for asked in scopes)
    assert digest(shop.manifests["latest"]) == image


@pytest.mark.parametrize(
    ("method", "answer", "kind", "words"),
    [
        ("POST", (202, {}, b""), ImageUnavailable, "does not say where"),
        ("POST", (202, {"Location": "http://["}, b""), ImageUnavailable, "does not say where|cannot be found"),
        ("POST", (202, {"Location": "file:///etc/passwd"}, b""), ImageUnavailable, "not safe"),
        ("POST", (403, {}, b""), ImageDenied, "does not let this user push to app"),
        ("POST", (413, {}, b'{"errors":[{"code":"SIZE_INVALID"}]}'), ImageUnsuitable, "SIZE_INVALID"),
        ("POST", (405, {}, b"<html>"), ImageUnsuitable, "HTTP 405"),
        ("POST", (500, {}, b""), ImageUnavailable, "HTTP 500"),
        ("PATCH", (202, {"Location": "/v2/app/blobs/uploads/u0", "Range": "0-99999999"}, b""), ImageUnsuitable, "counts more"),
        ("PATCH", (202, {"Location": "/v2/app/blobs/uploads/u0", "Range": "0-0"}, b""), ImageUnavailable, "takes nothing"),
        ("PUT", (401, {"WWW-Authenticate": "Basic"}, b""), ImageDenied, "wants a user name"),
    ],
)  # fmt: skip
def test_an_odd_answer_is_a_sentence(
    engine: Engine, image: str, shop: Shelf, monkeypatch: pytest.MonkeyPatch,
    method: str, answer: Answer, kind: type[RuntimeFault], words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(upload, "PIECE", 256 << 10)
    monkeypatch.setattr(upload, "PAUSE_S", 0.01)
    monkeypatch.setattr(transport, "PAUSE_S", 0.01)
    shop.instead = lambda said, _path, _headers: answer if said == method else None
    with pytest.raises(kind, match=words) as caught:
        engine.image_service.push(image, f"{shop.address}/app")
    assert caught.value.hint
    assert shop.manifests == {}


def test_a_registry_that_takes_byte_by_byte_is_given_up(
    engine: Engine, shop: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the kernel holds for a connection."""
    archive = archives.write(tmp_path / "large.tar", layers=[noise(2, 12 << 20)])
    image = engine.load(archive, reference="test/large")[0].id
    monkeypatch.setattr(upload, "SLOW_FOR_S", 0.3)
    monkeypatch.setattr(upload, "SLOWEST", 4 << 20)
    monkeypatch.setattr(upload, "FRUITLESS", 1)
    monkeypatch.setattr(transport, "TRIES", 1)
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(10))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        over = threading.Event()

        def take(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                while not over.wait(0.005) and client.recv(8192):
                    continue

        def taken_slowly() -> None:
            """The layer and the configuration come on a connection each."""
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=take, args=(listener.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=taken_slowly)

        def instead(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
            return (202, {"Location": f"http://{address}/slow"}, b"") if method == "POST" else None

        shop.instead = instead
        thread.start()
        began = time.monotonic()
        with pytest.raises(ImageUnavailable, match="too slowly"):
            engine.image_service.push(image, f"{shop.address}/app")
        assert time.monotonic() - began < transport.ANSWER_WITHIN_S
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_push_has_an_end(engine: Engine, image: str, shop: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "PUSH_WITHIN_S", 0.0)
    with pytest.raises(RuntimeFault, match="within an hour") as caught:
        engine.image_service.push(image, f"{shop.address}/app")
    assert caught.value.code == "deadline_exceeded"
    assert shop.manifests == {}
