"""Archives of images: read again here and by others, the same bytes each time, in constant memory; and what an image's history tells."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from runtime.api import ArchiveForm, Step
from runtime.engines.native.engine import NativeEngine
from runtime.errors import Cancelled, ImageCorrupt, NotFound
from tests import archives
from tests.conftest import patience
from tests.kernel.bad_registry import ARCHITECTURE, CONFIG, MANIFEST, Registry, digest, layer
from tests.kernel.images import engine, home, noise, shop
from tests.marks import files_only
from tests.traces import traces

__all__ = ["engine", "home", "shop"]
pytestmark = [pytest.mark.root, files_only]
FORMS: tuple[ArchiveForm, ...] = ("oci", "docker")


def saved(engine: NativeEngine, path: Path, form: ArchiveForm, *images: str) -> Path:
    with path.open("wb") as target:
        engine.image_service.save(images, target, form=form)
    return path


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        return [member.name for member in opened if member.isfile()]


def test_an_oci_archive_gives_the_same_image_again(engine: NativeEngine, shop: Registry, tmp_path: Path) -> None:
    image = engine.pull(shop.put("app", noise(1, 10_000)))
    archive = saved(engine, tmp_path / "a.tar", "oci", image.references[0])
    engine.remove_image(image.id)
    assert engine.load(archive) == (image,)


def test_of_several_platforms_side_by_side_this_nodes_is_loaded(engine: NativeEngine, tmp_path: Path) -> None:
    """As builders write them that make no index of their own, with what attests of an image."""
    image = engine.load(archives.write(tmp_path / "in.tar"))[0]
    archive = saved(engine, tmp_path / "a.tar", "oci", image.references[0])
    engine.remove_image(image.id)
    with tarfile.open(archive) as opened:
        index = json.load(opened.extractfile("index.json") or io.BytesIO())
    [ours] = index["manifests"]
    others = [
        {**ours, "digest": digest(kind.encode()), "platform": {"os": kind, "architecture": kind}}
        for kind in ("elsewhere", "unknown")
    ]
    assert engine.load(with_index(archive, tmp_path / "b.tar", [*others, ours])) == (image,)
    for rows in (others, []):
        with pytest.raises(ImageCorrupt):
            engine.load(with_index(archive, tmp_path / "c.tar", rows))


def with_index(archive: Path, target: Path, rows: list[object]) -> Path:
    content = json.dumps({"schemaVersion": 2, "manifests": rows}).encode()
    with tarfile.open(archive) as source, tarfile.open(target, "w") as opened:
        for member in source:
            held = source.extractfile(member)
            if member.name == "index.json":
                member.size, held = len(content), io.BytesIO(content)
            opened.addfile(member, held)
    return target


def test_a_docker_archive_gives_the_same_layers_and_configuration(
    engine: NativeEngine, shop: Registry, tmp_path: Path
) -> None:
    """Its form knows no manifest, and its layers are plain."""
    image = engine.pull(shop.put("app", noise(1, 10_000)))
    archive = saved(engine, tmp_path / "a.tar", "docker", image.id)
    engine.remove_image(image.id)
    [again] = engine.load(archive)
    assert again.references == image.references
    assert again.config == image.config
    assert [one.diff_id for one in again.layers] == [one.diff_id for one in image.layers]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_image_makes_the_same_bytes(engine: NativeEngine, tmp_path: Path, form: ArchiveForm) -> None:
    archive = archives.write(tmp_path / "in.tar", layers=[noise(2, 10_000), noise(3, 10)])
    engine.load(archive, reference="test/one")
    first = saved(engine, tmp_path / "first", form, "test/one").read_bytes()
    engine.remove_image("test/one")
    engine.load(archive, reference="test/one")
    assert saved(engine, tmp_path / "second", form, "test/one").read_bytes() == first


@pytest.mark.parametrize("form", FORMS)
def test_skopeo_reads_it(engine: NativeEngine, shop: Registry, tmp_path: Path, form: ArchiveForm) -> None:
    engine.pull(shop.put("app", noise(4, 100_000)))
    archive = saved(engine, tmp_path / "a.tar", form, f"{shop.address}/app")
    command = ["skopeo", "copy", "--quiet", "--insecure-policy", f"{form}-archive:{archive}", f"dir:{tmp_path}/out"]
    subprocess.run(command, check=True, timeout=patience(60))
    read = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert len(read["layers"]) == 1


@pytest.mark.parametrize("form", FORMS)
def test_layers_that_images_share_are_in_it_once(engine: NativeEngine, tmp_path: Path, form: ArchiveForm) -> None:
    base = noise(5, 100_000)
    for name in ("one", "two"):
        own = archives.layer({name: b"x"})
        engine.load(archives.write(tmp_path / "in.tar", layers=[base, own]), reference=f"test/{name}")
    archive = saved(engine, tmp_path / "a.tar", form, "test/one", "test/two", "test/one")
    assert len(names(archive)) == len(set(names(archive)))
    assert archive.stat().st_size < 150_000
    before = {image.references for image in engine.images()}
    for name in ("one", "two"):
        engine.remove_image(f"test/{name}")
    engine.load(archive)
    assert {image.references for image in engine.images()} == before


def test_it_has_the_names_that_were_asked_for_and_none_of_this_node(engine: NativeEngine, tmp_path: Path) -> None:
    engine.build("busybox")
    engine.load(archives.write(tmp_path / "in.tar"), reference="test/one:1")
    image = engine.image("test/one:1")
    engine.load(archives.write(tmp_path / "in.tar"), reference="test/one:2")

    def told(*images: str) -> set[str]:
        archive = saved(engine, tmp_path / "a.tar", "docker", *images)
        with tarfile.open(archive) as opened:
            source = opened.extractfile("manifest.json")
            assert source
            return {name for row in json.load(source) for name in row["RepoTags"] or ["none"]}

    assert told("test/one:1") == {"docker.io/test/one:1"}
    assert told(image.id) == {"docker.io/test/one:1", "docker.io/test/one:2"}
    assert told("busybox") == {"none"}


class Counting(io.RawIOBase):
    """Takes everything, keeps the digest."""

    def __init__(self) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()

    def write(self, content: object) -> int:
        data = bytes(content)  # type: ignore[call-overload]
        self.size += len(data)
        self.sha256.update(data)
        return len(data)


@pytest.mark.parametrize("form", FORMS)
def test_memory_does_not_grow_with_the_image(
    engine: NativeEngine, shop: Registry, tmp_path: Path, form: ArchiveForm
) -> None:
    big = engine.load(archives.write(tmp_path / "in.tar", layers=[noise(6, 48 << 20)]), reference="test/big")[0].id
    tracemalloc.start()
    try:
        target = Counting()
        engine.image_service.save([big], cast("BinaryIO", target), form=form)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert target.size > 48 << 20
    assert peak < 8 << 20


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_said_and_not_passed_on(engine: NativeEngine, tmp_path: Path, form: ArchiveForm) -> None:
    image = engine.load(archives.write(tmp_path / "in.tar", layers=[noise(7, 100_000)]), reference="test/one")[0]
    blob = engine.home.images / "blobs/sha256" / image.layers[0].digest.partition(":")[2]
    whole = blob.read_bytes()
    for damaged in (whole[:-700] + b"x" + whole[-699:], whole[:5000]):
        blob.write_bytes(damaged)
        with pytest.raises(ImageCorrupt):
            engine.image_service.save(["test/one"], cast("BinaryIO", Counting()), form=form)


def test_a_save_can_be_cancelled_and_the_command_line_leaves_no_part(engine: NativeEngine, tmp_path: Path) -> None:
    engine.load(archives.write(tmp_path / "in.tar", layers=[noise(8, 1 << 20)]), reference="test/one")

    def cancel(_step: Step) -> None:
        raise Cancelled("Enough.")

    before = traces(engine.home)
    with pytest.raises(Cancelled):
        engine.image_service.save(["test/one"], cast("BinaryIO", Counting()), progress=cancel)
    assert traces(engine.home).new_since(before) == {}
    command = [sys.executable, "-m", "runtime", "image", "save", "-o", str(tmp_path / "out/x.tar")]
    (tmp_path / "out").mkdir()
    failed = subprocess.run([*command, "test/none"], check=False, capture_output=True, cwd=Path(__file__).parents[2])
    assert failed.returncode == 1
    assert list((tmp_path / "out").iterdir()) == []
    subprocess.run([*command, "test/one"], check=True, cwd=Path(__file__).parents[2])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.tar"]


def test_history_puts_layers_beside_their_steps(engine: NativeEngine, shop: Registry) -> None:
    tars = [layer({"a": b"1"}), layer({"b": b"2"}), layer({"c": b"3"})]
    config = json.dumps({
        "architecture": ARCHITECTURE, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
        "history": [
            {"created": "2026-01-01T00:00:00Z", "created_by": "ADD a", "comment": "first"},
            {"created": "2026-01-02T00:00:00Z", "created_by": "ENV A=1", "empty_layer": True},
            {"created": "2026-01-03T00:00:00Z", "created_by": "ADD b"},
        ],
    }).encode()  # fmt: skip
    rows = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(tar), "size": len(tar)} for tar in tars]  # fmt: skip
    head = {"mediaType": CONFIG, "digest": digest(config), "size": len(config)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": head, "layers": rows}).encode()
    shop.blobs |= {digest(config): config, **{digest(tar): tar for tar in tars}}
    shop.manifests["app", "latest"] = manifest
    engine.pull(f"{shop.address}/app")
    told = engine.image_service.history(f"{shop.address}/app")
    assert [(one.created_by, one.comment, one.size, one.diff_id) for one in told] == [
        ("", "", len(tars[2]), digest(tars[2])),
        ("ADD b", "", len(tars[1]), digest(tars[1])),
        ("ENV A=1", "", 0, ""),
        ("ADD a", "first", len(tars[0]), digest(tars[0])),
    ]
    assert told[-1].created == "2026-01-01T00:00:00Z"
    with pytest.raises(NotFound):
        engine.image_service.history("nothing")
