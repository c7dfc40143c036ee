"""The contract of runtime.api.Files, held against every engine: what is copied, told, exported and committed."""

from __future__ import annotations

import io
import tarfile

import pytest

from runtime.api import CommitSpec, Engine
from runtime.errors import Conflict, InvalidSpec, NotFound
from tests import archives
from tests.conformance.test_engine import Make, engine, make, run
from tests.marks import no_cgroup, refused_early

__all__ = ["engine", "make"]
pytestmark = no_cgroup
ROWS = (
    archives.folder("d"),
    archives.file("d/f", b"hello"),
    archives.link("d/l", "f"),
    archives.hard_link("d/h", "d/f"),
)


def members(held: io.BytesIO) -> dict[str, bytes]:
    held.seek(0)
    with tarfile.open(fileobj=held) as archive:
        return {one.name: (archive.extractfile(one) or io.BytesIO()).read() if one.isreg() else b"" for one in archive}


@pytest.mark.parametrize("running", [True, False])
def test_what_was_copied_in_comes_out(engine: Engine, make: Make, running: bool) -> None:
    spec = make()
    engine.create(spec)
    if running:
        engine.start(spec.id)
    engine.files.copy_in(spec.id, "/tmp", io.BytesIO(archives.entries(*ROWS)))
    held = io.BytesIO()
    engine.files.copy_out(spec.id, "/tmp/d", held)
    found = members(held)
    assert list(found) == ["d", "d/f", "d/h", "d/l"]
    assert found["d/f"] == b"hello"
    engine.files.copy_out(spec.id, "/tmp/d/f", held := io.BytesIO())
    assert members(held) == {"f": b"hello"}
    engine.files.export(spec.id, held := io.BytesIO())
    assert members(held)["tmp/d/f"] == b"hello"
    added = [
        change.path
        for change in engine.files.diff(spec.id)
        if change.kind == "added" and change.path.startswith("/tmp")
    ]
    assert sorted(added) == ["/tmp/d", "/tmp/d/f", "/tmp/d/h", "/tmp/d/l"]


@refused_early
def test_what_is_not_there_is_told(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    with pytest.raises(NotFound) as caught:
        engine.files.copy_out(id, "/none", io.BytesIO())
    assert caught.value.field == "path"
    with pytest.raises(NotFound) as caught:
        engine.files.copy_in(id, "/none", io.BytesIO(archives.entries(*ROWS)))
    assert caught.value.field == "path"
    for verb in (engine.files.diff, lambda id: engine.files.export(id, io.BytesIO())):
        with pytest.raises(NotFound):
            verb("cnone")
    with pytest.raises(NotFound):
        engine.files.commit("cnone", CommitSpec("test/x"))


@refused_early
@pytest.mark.parametrize("path", ["relative", "", "/tmp/../etc", "/a\0b", "/" + "x" * 5000])
def test_a_bad_path_names_its_field(engine: Engine, make: Make, path: str) -> None:
    id = run(engine, make())
    with pytest.raises(InvalidSpec) as caught:
        engine.files.copy_out(id, path, io.BytesIO())
    assert caught.value.field == "path"
    with pytest.raises(InvalidSpec):
        engine.files.copy_in(id, path, io.BytesIO(archives.entries(*ROWS)))


@refused_early
@pytest.mark.parametrize("name", ["../up", "/absolute", "a/../../up"])
def test_an_archive_that_leads_out_is_refused(engine: Engine, make: Make, name: str) -> None:
    id = run(engine, make())
    with pytest.raises(InvalidSpec) as caught:
        engine.files.copy_in(id, "/tmp", io.BytesIO(archives.entries(archives.file(name, b"x"))))
    assert caught.value.field == "archive"


def test_a_read_only_container_takes_nothing(engine: Engine, make: Make) -> None:
    id = run(engine, make(read_only=True))
    with pytest.raises(Conflict):
        engine.files.copy_in(id, "/etc", io.BytesIO(archives.entries(*ROWS)))


def test_a_commit_is_an_image_by_its_name(engine: Engine, make: Make) -> None:
    id = run(engine, make())
    engine.files.copy_in(id, "/tmp", io.BytesIO(archives.entries(*ROWS)))
    image = engine.files.commit(id, CommitSpec("test/committed:1"))
    assert engine.image("test/committed:1").id == image.id
    assert engine.files.commit(id, CommitSpec("test/committed:1")).id == image.id
    other = run(engine, make(image=image.id))
    assert engine.inspect(other).image == image.id


@refused_early
@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (CommitSpec("Bad Name"), "image"),
        (CommitSpec("slipway.local/busybox"), "reference"),
        (CommitSpec("test/x", working_dir="relative"), "working_dir"),
        (CommitSpec("test/x", env={"A=B": "c"}), "env.A=B"),
        (CommitSpec("test/x", command=("a\0b",)), "command"),
    ],
)
def test_a_bad_commit_names_its_field(engine: Engine, make: Make, spec: CommitSpec, field: str) -> None:
    id = run(engine, make())
    before = engine.images()
    with pytest.raises(InvalidSpec) as caught:
        engine.files.commit(id, spec)
    assert caught.value.field == field
    assert engine.images() == before
