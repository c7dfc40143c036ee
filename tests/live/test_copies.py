"""Files out of a container and into it, through the agent's socket and the pages' doors, over the fake engine."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from console.accounts.models import AuditEvent, Membership, Role, Tenant, User
from console.live import client
from console.live.agent import copies
from console.workloads.models import Container
from runtime.api import ContainerSpec
from runtime.engines.fake.engine import FakeEngine
from runtime.home import Home
from tests.live.agent import agent

pytestmark = pytest.mark.django_db(transaction=True)
LARGE = os.urandom(3 << 20)
"""More than pipes and sockets hold."""


@pytest.fixture
def engine(tmp_path: Path, settings: object) -> Iterator[FakeEngine]:
    made = FakeEngine(Home(tmp_path, "tfake"))
    made.create(ContainerSpec("cfiles", "tenant1", "files", made.build("busybox").id))
    settings.AGENT_SOCKET = str(tmp_path / "agent.sock")  # type: ignore[attr-defined]
    with agent(made, tmp_path / "agent.sock"):
        yield made


@pytest.fixture
def container(tenant: Tenant, engine: FakeEngine) -> Container:
    return Container.objects.create(
        id="cfiles", tenant=tenant, node="n", name="files", image_reference="x", memory_bytes=1, cpu_millis=1, state="exited"
    )  # fmt: skip


def packed(**files: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def unpacked(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {one.name: opened.extractfile(one).read() for one in opened if one.isfile()}  # type: ignore[union-attr]


def signed_in(user: User) -> Client:
    made = Client()
    made.force_login(user)
    return made


def test_what_goes_in_comes_out(container: Container, member: User) -> None:
    client.copy_in(member, container, "/tmp", packed(large=LARGE, small=b"x"))
    found = unpacked(b"".join(client.copy_out(member, container, "/tmp")))
    assert found == {"tmp/large": LARGE, "tmp/small": b"x"}


@pytest.mark.parametrize("path", ["/nowhere", "/tmp/../..", "/proc"])
def test_a_path_that_is_not_there_is_refused_before_the_first_byte(
    container: Container, member: User, path: str
) -> None:
    with pytest.raises(client.AgentRefused):
        client.copy_out(member, container, path)


@pytest.mark.parametrize(
    "archive", [b"no archive" * 100_000, packed(large=LARGE)[: 1 << 20], packed(**{"../out": b""})]
)
def test_an_archive_that_is_none_is_told_however_long_it_is(container: Container, member: User, archive: bytes) -> None:
    with pytest.raises(client.AgentRefused):
        client.copy_in(member, container, "/tmp", archive)


def test_one_who_leaves_in_the_middle_ends_only_that_copy(container: Container, member: User) -> None:
    client.copy_in(member, container, "/tmp", packed(large=LARGE))
    for _time in range(copies.AT_ONCE + 1):  # else they would be held
        pieces = client.copy_out(member, container, "/tmp")
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
    assert unpacked(b"".join(client.copy_out(member, container, "/tmp")))["tmp/large"] == LARGE


def copied_for_ever(member: User, container: Container) -> None:
    """Until all others have their turn, and this one has none."""
    while True:
        client.copy_in(member, container, "/tmp", packed(small=b""))


def test_too_many_at_once_are_told(
    engine: FakeEngine, container: Container, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "WAIT_S", 0.2)
    engine.misbehaviour.plan("copy_out", stuck=True)
    waiting = [
        threading.Thread(target=lambda: b"".join(client.copy_out(member, container, "/tmp")))
        for _one in range(copies.OF_A_TENANT)
    ]
    for thread in waiting:
        thread.start()
    other = Tenant.objects.create(name="another", slug="another")
    Membership.objects.create(tenant=other, user=member, role=Role.MEMBER)
    engine.create(ContainerSpec("cothers", "tenant2", "others", engine.image("busybox").id))
    theirs = Container.objects.create(
        id="cothers", tenant=other, node="n", name="others", image_reference="x", memory_bytes=1, cpu_millis=1, state="exited"
    )  # fmt: skip
    try:
        with pytest.raises(client.AgentRefused, match="copying other files"):
            copied_for_ever(member, container)
        client.copy_in(member, theirs, "/tmp", packed(small=b""))
    finally:
        engine.misbehaviour.release("copy_out")
        for thread in waiting:
            thread.join()


def test_a_member_downloads_and_uploads_by_the_page(container: Container, member: User, tenant: Tenant) -> None:
    page = signed_in(member)
    up = {"folder": "/root", "file": SimpleUploadedFile("note.txt", b"hello")}
    assert page.post("/containers/cfiles/files/upload/", up).headers["Location"].endswith("?tab=files")
    up = {"folder": "/root", "unpack": "on", "file": SimpleUploadedFile("a.tar", packed(inside=b"x"))}
    assert page.post("/containers/cfiles/files/upload/", up).status_code == 302
    answer = page.get("/containers/cfiles/files/download/?path=/root")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="files.tar"'
    assert unpacked(b"".join(answer)) == {"root/note.txt": b"hello", "root/inside": b"x"}  # type: ignore[arg-type]
    verbs = AuditEvent.objects.filter(tenant=tenant).order_by("pk").values_list("verb", "data__path")
    assert list(verbs) == [
        ("container.upload", "/root"), ("container.upload", "/root"), ("container.download", "/root"),
    ]  # fmt: skip


def test_mistakes_are_told_beside_their_fields(container: Container, member: User) -> None:
    page = signed_in(member)
    for path, sentence in (("etc", "begins with"), ("/nowhere", "no such path")):
        answer = page.get("/containers/cfiles/files/download/", {"path": path})
        assert answer.status_code == 422
        assert sentence in answer.content.decode()
        assert f'value="{path}"' in answer.content.decode()
    for form, sentence in (
        ({"folder": "/tmp"}, "Choose a file."),
        ({"folder": "tmp", "file": SimpleUploadedFile("a", b"x")}, "begins with"),
        ({"folder": "/tmp", "unpack": "on", "file": SimpleUploadedFile("a", b"x" * 2000)}, "archive"),
    ):
        answer = page.post("/containers/cfiles/files/upload/", form)
        assert answer.status_code == 422
        assert sentence in answer.content.decode()


def test_viewers_and_outsiders_reach_no_file(container: Container, viewer: User, outsider: User) -> None:
    for user, status in ((viewer, 403), (outsider, 404)):
        page = signed_in(user)
        assert page.get("/containers/cfiles/files/download/?path=/etc").status_code == status
        up = {"folder": "/tmp", "file": SimpleUploadedFile("a", b"x")}
        assert page.post("/containers/cfiles/files/upload/", up).status_code == status
    assert not AuditEvent.objects.filter(verb__startswith="container.").exists()
