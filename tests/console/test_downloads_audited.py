"""Whatever leaves the house by a person's hand is in the audit log: who, what, of whom; and what was refused is not."""

from __future__ import annotations

import io
import random
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import QuerySet
from django.test import Client

from console.accounts.models import AuditEvent, Tenant, User
from console.live import client as agent
from console.metering.exports import archive, bundle
from console.metering.models import Period, UsageRecord
from console.metering.services import periods
from console.metering.services.rating import rate_period
from console.workloads.models import Container
from launcher import verify_bill
from tests.console.test_metering_bills import CPU, MEMORY, NEXT, period, published, use

pytestmark = pytest.mark.django_db


@pytest.fixture
def container(tenant: Tenant) -> Container:
    found = Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500
    )
    use(found)
    published(CPU, MEMORY)
    rate_period(period().pk)
    return found


def signed_in(user: User) -> Client:
    found = Client()
    found.force_login(user)
    return found


def events() -> QuerySet[AuditEvent]:
    return AuditEvent.objects.exclude(verb="user.sign_in")


def told() -> list[tuple[str, str | None, str | None, Any]]:
    rows = events().order_by("pk").values_list("verb", "user__username", "tenant__slug", "data__name")
    return list(rows)


def body(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_each_download_is_a_line_of_the_log(
    container: Container, member: User, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(_user: User, _container: Container) -> Iterator[tuple[str, str, str]]:
        yield "2026-11-23T20:00:00Z", "stdout", "hello"

    monkeypatch.setattr(agent, "log_lines", lines)
    client, who = signed_in(member), member.username
    body(client.get("/usage/export.csv?start=2026-11-01&end=2026-12-01"))
    for name in ("lines.csv", "focus-1.3.csv", "verify-bill.zip"):
        body(client.get(f"/usage/invoices/2026-11/{name}"))
    assert body(client.get(f"/containers/{container.pk}/logs/download/")) == b"2026-11-23T20:00:00Z stdout hello\n"
    assert told() == [
        ("usage.download", who, "acme", "2026-11-01T00Z - 2026-12-01T00Z"),
        *(("invoice.download", who, "acme", f"acme-2026-11-{name}") for name in ("lines.csv", "focus-1.3.csv", "verify-bill.zip")),
        ("container.logs", who, "acme", "web"),
    ]  # fmt: skip
    assert "invoice.download" in signed_in(admin).get("/audit/").content.decode()


def test_an_admin_s_export_of_everybody_is_nobody_s_line_but_the_node_s(container: Container, admin: User) -> None:
    body(signed_in(admin).get("/usage/export.json?all=1&start=2026-11-01&end=2026-12-01"))
    (event,) = events()
    assert (event.verb, event.tenant, event.data["everybody"], event.data["kind"]) == (
        "usage.download",
        None,
        True,
        "json",
    )


def test_what_was_refused_left_nothing_and_is_no_line(container: Container, member: User, outsider: User) -> None:
    stranger = signed_in(outsider)
    assert stranger.get(f"/containers/{container.pk}/logs/download/").status_code == 404
    assert stranger.get("/usage/invoices/2026-11/verify-bill.zip").status_code == 404
    assert signed_in(member).get("/usage/export.csv?start=x").status_code == 400
    assert signed_in(member).get("/usage/export.csv?all=1").status_code == 404
    assert signed_in(member).get("/usage/invoices/2026-11/everything.exe").status_code == 404
    assert told() == []


def test_an_export_by_the_command_is_a_line_too(container: Container, tmp_path: Path) -> None:
    call_command("bills", "export", "acme", "2026-11", str(tmp_path / "november"))
    assert [row[:3] for row in told()] == [("invoice.export", None, "acme")]


def test_the_archive_is_the_bundle_of_an_open_and_of_a_closed_month(container: Container, tmp_path: Path) -> None:
    for state in ("open", "closed"):
        if state == "closed":
            periods.close(period().pk, NEXT)
        assert period().state == state
        bundle.write(period(), tmp_path / state)
        content = b"".join(archive.zipped(period()))
        with zipfile.ZipFile(io.BytesIO(content)) as found:
            assert found.testzip() is None
            files = {name.partition("/")[2]: found.read(name) for name in found.namelist()}
        assert files == {path.name: path.read_bytes() for path in (tmp_path / state).iterdir()}
        assert content == b"".join(archive.zipped(period()))


def test_an_open_month_is_the_sum_of_what_is_in_it(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last rating is from before the last usage, and more comes while the archive is made."""
    use(container, epoch=2)
    manifest_of, came = bundle.manifest_of, 3

    def late(of: Period) -> str:
        nonlocal came
        text = manifest_of(of)
        if came == 3:
            use(container, epoch=came)
            came += 1
        return text

    monkeypatch.setattr(bundle, "manifest_of", late)
    with zipfile.ZipFile(io.BytesIO(b"".join(archive.zipped(period())))) as found:
        found.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert verify_bill.main([str(folder)]) == 0
    assert period().run.total > 0  # type: ignore[union-attr]
    assert UsageRecord.objects.filter(epoch__number=3, billed_in=period()).exists()
    monkeypatch.undo()
    use(container, epoch=4)
    call_command("bills", "export", container.tenant.slug, f"{period().starts_at:%Y-%m}", str(tmp_path / "by-hand"))
    assert verify_bill.main([str(tmp_path / "by-hand")]) == 0


def test_a_closed_month_begins_to_arrive_before_all_of_it_is_made_and_is_given_up_without_a_trace(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made: list[str] = []

    def watched(of: Period) -> Iterator[tuple[str, bundle.Making]]:
        for name, make in bundle_files(of):
            yield name, lambda path, name=name, make=make: (made.append(name), make(path))[1]

    bundle_files = bundle.files
    periods.close(period().pk, NEXT)
    monkeypatch.setattr(bundle, "files", watched)
    pieces = archive.zipped(period())
    next(pieces)
    assert made == ["bill.json"]
    (folder,) = tmp_path.iterdir()
    assert len(list((folder / "bill").iterdir())) == 1
    pieces.close()  # type: ignore[attr-defined] -- the reader has gone
    assert list(tmp_path.iterdir()) == []


def test_the_archive_s_memory_does_not_grow_with_its_files(tmp_path: Path) -> None:
    """The rows of each come in a stream, see ``test_metering_exports``; here a file is larger than what may be held of it."""
    path = tmp_path / "lines.jsonl"
    path.write_bytes(random.Random(3).randbytes(24 << 20))
    tracemalloc.start()
    read = sum(len(piece) for piece in archive._packed(iter([path]), "top"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read > 24 << 20
    assert most < 4 << 20
    assert not path.exists()
