"""Scheduled exports into an S3-compatible store: a real server on loopback, with what it refuses, loses and leads to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import boto3
import pytest
from django.test import Client
from moto.moto_server.threaded_moto_server import MotoRequestHandler
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from console.accounts.models import AuditEvent, Tenant, User
from console.core.errors import Invalid, NotAllowed
from console.metering.exports import s3
from console.metering.exports.places import Failed, Refused
from console.metering.models import ExportDelivery, ExportSchedule
from console.metering.services import export_deliveries as deliveries
from console.metering.services import exports
from console.metering.services.exports import Wish
from console.workloads.models import Container
from tests.console.test_export_schedules import AFTER, TODAY, delivered, scheduled, used
from tests.console.test_metering_bills import CPU, published

pytestmark = pytest.mark.django_db
SECRET = "a-secret/that+nobody=sees"


class _Quiet(MotoRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class Server:
    """moto's S3; ``asked`` are the requests, ``refuse`` answers all of them with a status."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refuse = ""
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Any) -> Any:
        self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if self.refuse:
            start(self.refuse, [("Content-Length", "0")])
            return [b""]
        return self._app(environ, start)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def bucket(server: Server) -> Any:
    store = boto3.resource(
        "s3", endpoint_url=server.url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    made = store.Bucket("finance")
    made.create()
    yield made
    made.objects.delete()


@pytest.fixture
def container(tenant: Tenant, settings: object, tmp_path: Path) -> Container:
    settings.HOME = tmp_path / "home"  # type: ignore[attr-defined]
    published(CPU)
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500
    )


def wish(endpoint: str, **more: object) -> Wish:
    plain = Wish("Store", ("usage-csv", "readings"), "day", "1", "s3", folder="slipway", endpoint=endpoint, bucket="finance",
                 access_key="AKIA", secret=SECRET, inside=True)  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


def store(endpoint: str, *, inside: bool = True, bucket: str = "finance") -> s3.Store:
    return s3.Store(endpoint, "", bucket, "slipway", "AKIA", SECRET, inside, "10.89.0.0/16")


def keys(bucket: Any) -> dict[str, bytes]:
    return {one.key: one.get()["Body"].read() for one in bucket.objects.all()}


def test_a_day_is_in_the_bucket_with_its_manifest_last_and_each_time_the_same(
    container: Container, admin: User, tenant: Tenant, bucket: Any, server: Server
) -> None:
    used(container)
    schedule = scheduled(tenant, admin, wish(server.url))
    server.asked.clear()
    deliveries.deliver_due(AFTER)
    delivered(schedule)
    puts = [path for method, path in server.asked if method == "PUT"]
    assert puts[-1].endswith("/manifest.json")
    found = keys(bucket)
    under = f"slipway/{TODAY:%Y-%m-%d}/"
    assert set(found) == {under + name for name in ("usage.csv", "readings.jsonl", "epochs.jsonl", "manifest.json")}
    manifest = json.loads(found[f"{under}manifest.json"])
    for name, described in manifest["files"].items():
        assert described["sha256"] == hashlib.sha256(found[under + name]).hexdigest()
    exports.run_now(schedule=schedule, actor=admin, now=AFTER)
    deliveries.deliver_due(AFTER)
    assert keys(bucket) == found


def test_a_large_file_goes_in_parts(
    bucket: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (12 << 12))
    store(server.url).put("2026-11/large", large)
    assert keys(bucket)["slipway/2026-11/large"] == large.read_bytes()
    assert sum("uploadId" in path or method == "POST" for method, path in server.asked) >= 2


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("403 Forbidden", "The store refuses the access key, or does not let it write there."),
        ("404 Not Found", "The store has no such bucket."),
        ("500 Internal Server Error", "The store did not take it."),
    ],
)
def test_what_the_store_refuses_is_told_and_tried_again(
    container: Container, admin: User, tenant: Tenant, bucket: Any, server: Server, status: str, told: str
) -> None:
    used(container)
    schedule = scheduled(tenant, admin, wish(server.url))
    server.refuse = status
    deliveries.deliver_due(AFTER)
    server.refuse = ""
    found = schedule.deliveries.get()
    assert (found.state, found.attempts, found.error) == (ExportDelivery.State.WAITING, 1, told)
    assert not keys(bucket)
    deliveries.deliver_due(AFTER + deliveries.LONGEST_PAUSE)
    delivered(schedule)


def test_a_bucket_that_is_not_there_and_a_store_that_is_not(server: Server, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_text("x")
    with pytest.raises(Failed, match="no such bucket"):
        store(server.url, bucket="nobodys").put("x", small)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Failed, match="cannot be reached"):
        store(nobody).put("x", small)


def test_a_store_that_never_answers_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.write_text("x")
    monkeypatch.setattr(s3, "ANSWER_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Failed, match="in time"):
        store(f"http://127.0.0.1:{silent.getsockname()[1]}").put("x", small)


@pytest.mark.parametrize("host", ["store.example.org", "127.0.0.1"])
def test_a_tenants_store_never_leads_to_the_node(
    server: Server, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """A name may lead elsewhere when it is used than when it was set up."""
    found = socket.getaddrinfo

    def leads_here(name: Any, *more: Any, **words: Any) -> Any:
        return found("127.0.0.1" if name == "store.example.org" else name, *more, **words)

    monkeypatch.setattr(socket, "getaddrinfo", leads_here)
    small = tmp_path / "small"
    small.write_text("x")
    server.asked.clear()
    with pytest.raises(Refused, match="only an admin"):
        store(f"http://{host}:{server.port}", inside=False).put("x", small)
    assert server.asked == []
    with contextlib.suppress(Failed):  # moto takes the first word of a name for the bucket
        store(f"http://{host}:{server.port}").put("x", small)
    assert server.asked, "an admin's word lets it through"


def test_the_nodes_own_proxies_and_profiles_are_not_used(
    server: Server, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "config"
    profile.write_text("[default]\nendpoint_url = http://127.0.0.1:1\nregion = nowhere\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    small = tmp_path / "small"
    small.write_text("x")
    store(server.url).put("x", small)
    assert keys(bucket)["slipway/x"] == b"x"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoint": ""}, "endpoint"),
        ({"endpoint": "s3.example.org"}, "endpoint"),
        ({"endpoint": "http://s3.example.org"}, "endpoint"),
        ({"endpoint": "https://user:pass@s3.example.org"}, "endpoint"),
        ({"endpoint": "https://s3.example.org/path"}, "endpoint"),
        ({"endpoint": "https://s3.example.org?x=1"}, "endpoint"),
        ({"endpoint": "https://s3.example.org:99999"}, "endpoint"),
        ({"endpoint": "https://[::1"}, "endpoint"),
        ({"endpoint": "https://127.0.0.1:9000"}, "endpoint"),
        ({"endpoint": "https://10.1.2.3"}, "endpoint"),
        ({"endpoint": "https://169.254.169.254"}, "endpoint"),
        ({"endpoint": "https://localhost"}, "endpoint"),
        ({"endpoint": "https://s3.example.org", "bucket": "A"}, "bucket"),
        ({"endpoint": "https://s3.example.org", "bucket": "a/b"}, "bucket"),
        ({"endpoint": "https://s3.example.org", "region": "EU West"}, "region"),
        ({"endpoint": "https://s3.example.org", "access_key": ""}, "access_key"),
        ({"endpoint": "https://s3.example.org", "secret": " "}, "secret"),
        ({"endpoint": "https://s3.example.org", "secret": "a b"}, "secret"),
    ],
)
def test_what_makes_no_store_is_refused_by_its_field_and_an_owners_word_lets_nothing_inside(
    owner: User, tenant: Tenant, change: dict[str, object], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        exports.add(tenant=tenant, actor=owner, wish=replace(wish(""), **change))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert not ExportSchedule.objects.exists()


def test_the_secret_is_stored_unreadable_and_shown_to_nobody(owner: User, tenant: Tenant) -> None:
    client = Client()
    client.force_login(owner)
    form = {"name": "n", "contents": ["usage-csv"], "every": "day", "hour": "1", "place": "s3", "access_key": "AKIA",
            "endpoint": "https://s3.example.org", "bucket": "finance", "secret": SECRET}  # fmt: skip
    refused = client.post("/usage/exports/add/", {**form, "bucket": "?"})
    assert refused.status_code == 422
    assert SECRET not in refused.content.decode()
    assert client.post("/usage/exports/add/", form).status_code == 302
    schedule = ExportSchedule.objects.get()
    assert SECRET.encode() not in bytes(schedule.secret_encrypted)
    assert deliveries.place_of(schedule).secret == SECRET  # type: ignore[attr-defined]
    here = f"/usage/exports/{schedule.pk}/"
    assert SECRET not in client.get(here).content.decode() + client.get("/usage/exports/").content.decode()
    assert client.post(f"{here}credentials/", {"access_key": "B", "secret": ""}).status_code == 422
    assert client.post(f"{here}credentials/", {"access_key": "B", "secret": "another"}).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.access_key, deliveries.place_of(schedule).secret) == ("B", "another")  # type: ignore[attr-defined]
    assert SECRET not in json.dumps(list(AuditEvent.objects.values_list("data", flat=True)))
    assert SECRET not in str(schedule) + repr(schedule)


def test_a_secret_whose_key_is_gone_is_told(
    container: Container, admin: User, tenant: Tenant, server: Server, bucket: Any
) -> None:
    used(container)
    schedule = scheduled(tenant, admin, wish(server.url))
    ExportSchedule.objects.update(secret_encrypted=b"gone")
    deliveries.deliver_due(AFTER)
    assert "cannot be read" in schedule.deliveries.get().error
    assert not keys(bucket)


def test_a_folder_has_no_credentials_to_change(owner: User, tenant: Tenant, settings: object, tmp_path: Path) -> None:
    settings.EXPORT_ROOTS = [str(tmp_path)]  # type: ignore[attr-defined]
    plain = wish("", place="folder", root=str(tmp_path))
    schedule = exports.add(tenant=tenant, actor=owner, wish=plain)
    with pytest.raises(NotAllowed):
        exports.change_credentials(schedule=schedule, actor=owner, access_key="a", secret="b")
