"""Registries that mean harm, or are merely odd: where they send us, what they ask for, how slowly, and who must never see the password.

Each is a real server on loopback.  Hosts get a depth by name here (a real one needs a network), and nothing else is replaced.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from runtime.api import Credentials, Engine
from runtime.errors import ImageCorrupt, ImageDenied, ImageUnavailable, RuntimeFault
from runtime.home import Home
from runtime.image import pull as pulling
from runtime.image import reach, registry, transport
from runtime.image.pull import choose_platform
from runtime.image.registry import may_sign_in_at
from tests.kernel.bad_registry import ARCHITECTURE, Registry, digest, layer
from tests.kernel.bad_registry import registry as honest_registry
from tests.kernel.images import engine, home
from tests.marks import files_only
from tests.serving import QuietHandler, serving
from tests.traces import traces

__all__ = ["engine", "home"]
pytestmark = [pytest.mark.root, files_only]
LOGIN = Credentials("somebody", "secret-password")
Answer = tuple[int, Mapping[str, str], bytes]


@pytest.fixture
def shop() -> Iterator[Registry]:
    with honest_registry() as running:
        running.put("app", layer({"file": b"content"}))
        yield running


class Server:
    """Answers by a function of path and headers, and keeps what it was asked."""

    def __init__(self, answer: Callable[[str, Mapping[str, str]], Answer]) -> None:
        self.answer = answer
        self.address = ""
        self.asked: list[tuple[str, dict[str, str]]] = []

    def authorizations(self) -> list[str]:
        return [headers["authorization"] for _, headers in self.asked if "authorization" in headers]


@contextmanager
def answering(answer: Callable[[str, Mapping[str, str]], Answer]) -> Iterator[Server]:
    made = Server(answer)

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 -- the name that http.server calls
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.asked.append((self.path, headers))
            code, sent, body = made.answer(self.path, headers)
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **sent}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as made.address:
        yield made


def passing(shop: Registry) -> Callable[[str, Mapping[str, str]], Answer]:
    return lambda path, headers: shop.answer(path.partition("?")[0], headers.get("authorization", ""))


# ------------------------------------------------------------------------------------------------ into the node


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"])
def test_a_tenants_registry_on_the_node_is_not_asked(engine: Engine, home: Home, host: str) -> None:
    with answering(lambda *_: (200, {}, b"{}")) as service:
        before = traces(home)
        with pytest.raises(RuntimeFault) as caught:
            engine.pull(f"{host}:{service.address.partition(':')[2]}/app", insecure=True, confined=True)
        assert caught.value.code in {"image_denied", "invalid_spec"}
        assert service.asked == []
        assert traces(home).new_since(before) == {}


def test_what_it_says_of_a_closed_port_is_what_it_says_of_an_open_one(engine: Engine) -> None:
    """Else it would be a way to look for services."""
    said = []
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for found in (listening, closed):
            address = f"127.0.0.1:{found.getsockname()[1]}"
            with pytest.raises(ImageDenied) as caught:
                engine.pull(f"{address}/app", insecure=True, confined=True)
            said.append(str(caught.value).replace(address, ""))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("address", "depth"),
    [
        ("127.0.0.1", 2), ("127.9.9.9", 2), ("::1", 2), ("::ffff:127.0.0.1", 2), ("169.254.169.254", 2), ("fe80::1%eth0", 2), ("0.0.0.0", 2),
        ("224.0.0.1", 2), ("10.89.3.7", 2), ("10.200.0.1", 1), ("192.168.1.1", 1), ("fd00::1", 1), ("100.64.0.1", 1), ("1.1.1.1", 0),
        ("2606:4700::1111", 0), ("2002:7f00:1::", 2), ("64:ff9b::7f00:1", 2), ("64:ff9b::a00:1", 1), ("64:ff9b::101:101", 0),
    ],
)  # fmt: skip
def test_how_deep_an_address_lies(address: str, depth: int) -> None:
    assert reach.depth(address, "10.89.0.0/16") == depth


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 stands for a public address, and 127.0.0.2 for one inside."""
    real = reach.depth
    monkeypatch.setattr(reach, "depth", lambda text, block: reach.PUBLIC if text == "127.0.0.1" else real(text, block))


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("what", ["manifests", "blobs"])
def test_a_redirect_into_the_node_is_not_followed(engine: Engine, home: Home, shop: Registry, what: str) -> None:
    with answering(lambda *_: (200, {}, b"inside")) as inside:
        target = f"http://{inside.address.replace('127.0.0.1', '127.0.0.2')}/shut-down"

        def answer(path: str, headers: Mapping[str, str]) -> Answer:
            return (307, {"Location": target}, b"") if what in path else passing(shop)(path, headers)

        with answering(answer) as evil:
            before = traces(home)
            with pytest.raises(ImageDenied, match="inside the node"):
                engine.pull(f"{evil.address}/app", insecure=True, confined=True)
            assert traces(home).new_since(before) == {}
        assert inside.asked == []


@pytest.mark.usefixtures("outside")
def test_a_sign_in_inside_the_node_is_not_asked(engine: Engine) -> None:
    with answering(lambda *_: (200, {}, b'{"token": "x"}')) as inside:
        realm = f"http://{inside.address.replace('127.0.0.1', '127.0.0.2')}/token"
        with (
            answering(lambda *_: (401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}, b"")) as evil,
            pytest.raises(RuntimeFault),
        ):
            engine.pull(f"{evil.address}/app", insecure=True, confined=True)
        assert inside.asked == []


def test_a_name_that_changes_its_address_between_looking_and_connecting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked up it is public; the connection leads to the node, and nothing is sent on it."""
    real = reach.socket.getaddrinfo
    looked: list[str] = []

    def rebinding(host: str, *rest: object, **more: object) -> object:
        if host == "registry.example.org":
            looked.append(host)
            return real("1.1.1.1" if len(looked) == 1 else "127.0.0.1", *rest, **more)  # type: ignore[arg-type]
        return real(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with answering(lambda *_: (200, {}, b"{}")) as service:
        with pytest.raises(ImageDenied):
            engine.pull(f"registry.example.org:{service.address.partition(':')[2]}/app", insecure=True, confined=True)
        assert len(looked) > 1, "it was connected to"
        assert service.asked == []


# ------------------------------------------------------------------------------------------------ the password


def bearer(realm: str, shop: Registry) -> Callable[[str, Mapping[str, str]], Answer]:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="s",scope="repository:others/private:push"'}

    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        if headers.get("authorization") != "Bearer the-token":
            return 401, challenge, b""
        return shop.answer(path, "")

    return answer


def test_a_token_is_got_with_the_password_and_used_at_the_registry(engine: Engine, shop: Registry) -> None:
    def service(_path: str, headers: Mapping[str, str]) -> Answer:
        wanted = "Basic " + base64.b64encode(b"somebody:secret-password").decode()
        return (200, {}, b'{"access_token": "the-token"}') if headers.get("authorization") == wanted else (401, {}, b"")

    with answering(service) as tokens, answering(bearer(f"http://{tokens.address}/token?a=b", shop)) as guarded:
        engine.pull(f"{guarded.address}/app", credentials=LOGIN)
        assert "scope=repository%3Aapp%3Apull" in tokens.asked[0][0]
        assert "others" not in tokens.asked[0][0], "whatever the registry would have us ask for"
        assert set(guarded.authorizations()) == {"Bearer the-token"}
        with pytest.raises(ImageDenied):
            engine.pull(f"{guarded.address}/app", credentials=Credentials("somebody", "wrong"))


def test_the_password_goes_to_no_other_site(engine: Engine, shop: Registry) -> None:
    with answering(lambda *_: (200, {}, b'{"token": "x"}')) as thief:
        for realm in (
            f"http://localhost:{thief.address.partition(':')[2]}/",
            f"http://{thief.address.replace('0.1', '0.2')}/",
        ):
            with answering(bearer(realm, shop)) as evil, pytest.raises(RuntimeFault) as caught:
                engine.pull(f"{evil.address}/app", credentials=LOGIN)
            assert "secret-password" not in str(caught.value)
        assert thief.authorizations() == []


@pytest.mark.parametrize(
    ("of", "at", "may"),
    [
        ("registry.example.org", "registry.example.org", True),
        ("registry.example.org", "auth.example.org", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.example.org", "auth.example.com", False),
        ("registry.example.org", "evilexample.org", False),
        ("example.org", "evil.org", False),
        ("example.co.uk", "evil.co.uk", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("localhost", "localhost", True),
    ],
)
def test_whose_sign_in_a_site_is(of: str, at: str, may: bool) -> None:
    assert may_sign_in_at(of, at) is may


@pytest.mark.parametrize("kind", ["Basic", "Bearer"])
def test_a_blob_elsewhere_is_fetched_without_the_registrys_authorization(
    engine: Engine, shop: Registry, kind: str
) -> None:
    """A storage service behind a redirect, on another host or another port."""
    with answering(passing(shop)) as storage:

        def answer(path: str, headers: Mapping[str, str]) -> Answer:
            if "authorization" not in headers:
                realm = f"http://{guarded.address}/token"
                return (
                    (200, {}, b'{"token": "x"}')
                    if path.startswith("/token")
                    else (401, {"WWW-Authenticate": f'{kind} realm="{realm}"'}, b"")
                )
            if path.startswith("/token"):
                return 200, {}, b'{"token": "the-token"}'
            if "/blobs/" in path:
                return 307, {"Location": f"http://{storage.address}{path}?signature=1"}, b""
            return shop.answer(path, "")

        with answering(answer) as guarded:
            engine.pull(f"{guarded.address}/app", credentials=LOGIN)
            assert guarded.authorizations()
        assert storage.asked
        assert storage.authorizations() == []


def test_no_step_down_from_https(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    client = transport.Transport(
        "r.example.org", reach.Reach("r.example.org", "r.example.org", confined=True, containers="10.89.0.0/16")
    )
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(307, headers={"Location": "http://r.example.org/plain"})

    monkeypatch.setattr(client, "_client", httpx.Client(transport=httpx.MockTransport(answer)))
    monkeypatch.setattr(client._reach, "vet", lambda _: None)
    with pytest.raises(ImageUnavailable, match="not safe"):
        client.get("https://r.example.org/v2/", {})
    assert asked == ["https://r.example.org/v2/"]


def test_redirects_without_end_are_ended(engine: Engine) -> None:
    with answering(lambda path, _: (302, {"Location": path + "x"}, b"")) as circling:
        with pytest.raises(ImageUnavailable, match="without end"):
            engine.pull(f"{circling.address}/app")
        assert len(circling.asked) < 10


# ------------------------------------------------------------------------------------------------ time


@contextmanager
def trickling(head: bytes, piece: bytes, every_s: float) -> Iterator[str]:
    """Sends ``head`` at once and ``piece`` again and again."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one(client: socket.socket) -> None:
            with client:
                try:
                    client.sendall(head)
                    while not stop.wait(every_s):
                        client.sendall(piece)
                except OSError:
                    return

        def accept() -> None:
            try:
                while True:
                    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize(
    ("head", "piece"),
    [(b"", b"H"), (b"HTTP/1.1 200 OK\r\nX: ", b"x"), (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" ")],
)
def test_an_answer_that_comes_byte_by_byte_is_given_up(
    engine: Engine, home: Home, monkeypatch: pytest.MonkeyPatch, head: bytes, piece: bytes
) -> None:
    """Each read brings something, so no read times out."""
    monkeypatch.setattr(transport, "ANSWER_WITHIN_S", 0.5)
    before = traces(home)
    with trickling(head, piece, 0.05) as address, pytest.raises(ImageUnavailable, match="in time"):
        engine.pull(f"{address}/app")
    assert traces(home).new_since(before) == {}


def test_a_download_that_trickles_is_given_up(engine: Engine, shop: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SLOW_FOR_S", 0.3)
    monkeypatch.setattr(pulling, "PAUSE_S", 0.01)
    noise = layer({"noise": bytes(range(256)) * 4000})
    shop.put("large", noise, blob=noise)
    size = len(noise)
    with trickling(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, b"x", 0.05) as slow:

        def answer(path: str, headers: Mapping[str, str]) -> Answer:
            if digest(noise) in path:
                return 307, {"Location": f"http://{slow}/"}, b""
            return passing(shop)(path, headers)

        with answering(answer) as front, pytest.raises(ImageUnavailable, match="too slowly"):
            engine.pull(f"{front.address}/large")


def test_a_pull_has_an_end(engine: Engine, shop: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PULL_WITHIN_S", -1.0)
    with pytest.raises(RuntimeFault) as caught:
        engine.pull(f"{shop.address}/app")
    assert caught.value.code == "deadline_exceeded"
    monkeypatch.undo()
    engine.pull(f"{shop.address}/app")


def test_a_registry_that_holds_a_blob_back_holds_up_nobody_elsewhere(engine: Engine, shop: Registry) -> None:
    """Another registry has the same blob: its pull does not wait for the slow one's."""
    blob = gzip.compress(layer({"file": b"content"}), mtime=0)
    release = threading.Event()

    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        if digest(blob) in path:
            release.wait(30)
        return passing(shop)(path, headers)

    with answering(answer) as slow:
        waiting = threading.Thread(target=lambda: engine.pull(f"{slow.address}/app"))
        waiting.start()
        deadline = time.monotonic() + 10
        while not any(digest(blob) in path for path, _ in slow.asked):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        engine.pull(f"{shop.address}/app")
        assert waiting.is_alive(), "the slow one still waits"
        release.set()
        waiting.join(30)
    assert len(engine.images()) == 1


# ------------------------------------------------------------------------------------------------ oddities


def test_a_registry_that_compresses_answers_gives_the_same_bytes(engine: Engine, shop: Registry) -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        code, sent, body = passing(shop)(path, headers)
        if "gzip" in headers.get("accept-encoding", ""):
            return code, {**sent, "Content-Encoding": "gzip"}, gzip.compress(body)
        return code, sent, body

    with answering(answer) as front:
        assert engine.pull(f"{front.address}/app").layers


def test_a_blob_of_another_size_is_damage_and_not_tried_again(engine: Engine, home: Home, shop: Registry) -> None:
    for key in list(shop.blobs):
        if shop.blobs[key].startswith(b"\x1f\x8b"):
            shop.blobs[key] = shop.blobs[key][:-1]
    before = traces(home)
    with pytest.raises(ImageCorrupt):
        engine.pull(f"{shop.address}/app")
    assert traces(home).new_since(before) == {}


def test_too_many_questions_is_said_so(engine: Engine) -> None:
    with answering(lambda *_: (429, {}, b"")) as busy, pytest.raises(ImageUnavailable, match="too often"):
        engine.pull(f"{busy.address}/app")


def test_an_image_that_claims_more_than_the_disk_has_is_refused_before_it_is_fetched(
    engine: Engine, home: Home, shop: Registry
) -> None:
    manifest = json.loads(shop.manifests["app", "latest"])
    manifest["layers"][0]["size"] = (1 << 40) - 1
    shop.manifests["app", "latest"] = json.dumps(manifest).encode()
    shop.served.clear()
    before = traces(home)
    with pytest.raises(RuntimeFault) as caught:
        engine.pull(f"{shop.address}/app")
    assert caught.value.code == "out_of_space"
    assert not [path for path in shop.served if "/blobs/" in path]
    assert traces(home).new_since(before) == {}


def row(which: str, variant: str | None = None, *, os: str = "linux") -> dict[str, object]:
    platform = {"os": os, "architecture": which} | ({"variant": variant} if variant else {})
    return {"digest": digest(f"{os}{which}{variant}".encode()), "platform": platform}


def test_of_several_variants_the_plainest_is_taken() -> None:
    rows = [row(ARCHITECTURE, "v4"), row(ARCHITECTURE, "v2"), row("s390x"), row(ARCHITECTURE, os="windows")]
    assert choose_platform(rows) == rows[1]["digest"]
    assert choose_platform([*rows, row(ARCHITECTURE)]) == row(ARCHITECTURE)["digest"]


def test_a_row_without_a_platform_is_the_last_resort_and_an_attestation_never() -> None:
    silent = {"digest": digest(b"silent")}
    attestation = row("unknown", os="unknown")
    assert choose_platform([attestation, silent]) == silent["digest"]
    with pytest.raises(RuntimeFault, match="no platform"):
        choose_platform([attestation])


def test_an_index_in_an_index_is_followed_and_not_for_ever(engine: Engine, shop: Registry) -> None:
    index = "application/vnd.oci.image.index.v1+json"
    inner = shop.manifests["app", "latest"]
    for name, depth in (("nested", 2), ("bottomless", 9)):
        content = inner
        for _ in range(depth):
            shop.manifests[name, digest(content)] = content
            content = json.dumps({"manifests": [{"digest": digest(content), "mediaType": index}]}).encode()
        shop.manifests[name, "latest"] = content
    assert engine.pull(f"{shop.address}/nested").id == digest(inner)
    with pytest.raises(ImageCorrupt):
        engine.pull(f"{shop.address}/bottomless")
