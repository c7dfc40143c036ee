"""What keeps an image, what a crash leaves, and what one image may know of another's content."""

from __future__ import annotations

import gzip
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from runtime.api import ContainerSpec, Engine, Limits, State
from runtime.engines import open_engine
from runtime.engines.native.engine import NativeEngine
from runtime.errors import Conflict, ImageCorrupt, NotFound, RuntimeFault
from runtime.home import Home
from runtime.image import build as builder
from runtime.image.recipe import find
from runtime.validation import MEMORY_LABEL
from tests import archives
from tests.kernel.bad_registry import ARCHITECTURE, CONFIG, LAYER, MANIFEST, Registry, busybox, digest, layer, registry
from tests.kernel.images import engine, home, shop
from tests.marks import files_only
from tests.traces import traces
from tests.unit.test_tree import deep

__all__ = ["engine", "home", "shop"]
pytestmark = [pytest.mark.root, files_only]


def spec(image: str) -> ContainerSpec:
    command = ("/bin/sleep", "1000")
    return ContainerSpec("ckept", "tenant", "kept", image, command=command, limits=Limits(memory_bytes=32 << 20))


def layers(home: Home) -> list[str]:
    return sorted(entry.name for entry in (home.images / "layers").iterdir())


# ------------------------------------------------------------------------------------------------ what keeps an image


def test_a_container_keeps_its_image_when_the_tag_moves(engine: NativeEngine, home: Home, shop: Registry) -> None:
    """Another pull of the same tag, and a collection, and still its files are there, and it starts again."""
    old = engine.pull(shop.put("app", busybox()))
    engine.create(spec(old.id))
    engine.start("ckept")
    new = engine.pull(shop.put("app", busybox() + b"\0" * 512))
    assert engine.image(f"{shop.address}/app").id == new.id != old.id
    with pytest.raises(NotFound):
        engine.pull(f"{shop.address}/nothing")
    engine.store.gc()
    assert old.layers[0].diff_id.partition(":")[2] in layers(home)
    engine.stop("ckept", grace_s=0)
    assert engine.start("ckept").state is State.RUNNING
    with pytest.raises(Conflict):
        engine.remove_image(old.id)
    engine.remove("ckept", force=True)
    assert layers(home) == [new.layers[0].diff_id.partition(":")[2]]


def test_an_image_knows_the_names_that_it_has_now(engine: NativeEngine, shop: Registry) -> None:
    old = engine.pull(shop.put("app", busybox()))
    engine.create(spec(old.id))
    assert engine.image(old.id).references == (f"{shop.address}/app:latest",)
    open_engine("native", engine.home).pull(shop.put("app", busybox() + b"\0" * 512))
    assert engine.image(old.id).references == ()


# ------------------------------------------------------------------------------------------------ crashes

PROGRAM = """
import os, signal, sys
from runtime.engines import open_engine
from runtime.home import Home
from runtime.kernel import tree
from runtime.image import collection, layer_writer
engine = open_engine('native', Home.from_environment())
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
"""


def dies(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_collection_that_is_killed_leaves_no_half_layer(engine: NativeEngine, home: Home, shop: Registry) -> None:
    """In the middle of the files: the same image, pulled again, is whole."""
    reference = shop.put("app", layer({f"d{number}/file": b"x" for number in range(20)}))
    image = engine.pull(reference)
    folder = home.images / "layers" / image.layers[0].diff_id.partition(":")[2] / "fs"
    whole = sorted(path.name for path in folder.iterdir())
    dies("tree.os.rmdir = die; engine.remove_image(sys.argv[1])", reference)
    engine.pull(reference)
    assert sorted(path.name for path in folder.iterdir()) == whole
    engine.reconcile()
    assert list((home.images / "ingest").iterdir()) == []


def test_an_unpacking_that_is_killed_leaves_nothing_after_the_next_start(
    engine: NativeEngine, home: Home, shop: Registry
) -> None:
    before = traces(home)
    reference = shop.put("app", layer({"a": b"x", "b": b"y"}))
    dies("layer_writer.LayerWriter.finish = die; engine.pull(sys.argv[1])", reference)
    assert list((home.images / "ingest").glob("*.fs")), "killed while it unpacked"
    again = open_engine("native", home)
    again.reconcile()
    assert list((home.images / "ingest").iterdir()) == []
    again.image_service.prune()
    assert traces(home).new_since(before) == {}


def test_what_is_being_unpacked_is_not_swept(engine: NativeEngine, home: Home) -> None:
    name = "ab" * 32
    (home.images / "ingest" / f"{name}.fs" / "fs").mkdir(parents=True)
    with home.lock(f"layer-{name[:32]}"):
        assert engine.store.sweep() == ()
    assert engine.store.sweep() == (f"image:{name}.fs",)


def test_a_build_that_is_killed_leaves_nothing_after_the_next_start(engine: NativeEngine, home: Home) -> None:
    """While mmdebstrap runs: its processes end with it, and its folder, wherever it made it, is swept."""
    elsewhere = set(Path("/tmp").glob("mmdebstrap.*"))
    program = PROGRAM + "engine.build('python')"
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        deadline = time.monotonic() + 120
        while not list((home.images / "ingest").glob("build.*/mmdebstrap.*/etc")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        assert engine.store.sweep() == (), "it is at work"
        process.kill()
    deadline = time.monotonic() + 10
    while left := [row for row in traces(home).processes if "mmdebstrap" in row]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    engine.reconcile()
    assert list((home.images / "ingest").iterdir()) == []
    assert traces(home).mounts == frozenset()
    assert set(Path("/tmp").glob("mmdebstrap.*")) <= elsewhere


def test_a_build_that_never_ends_is_ended(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "BUILD_DEADLINE_S", 0.5)
    with pytest.raises(RuntimeFault, match="took too long"):
        builder._run([*builder.TIED, "sleep", "1000"], {}, lambda _: None, "something")


@pytest.mark.parametrize("size_mib", [8, 60])
def test_a_full_disk_in_a_build_leaves_nothing(home: Home, tmp_path: Path, size_mib: int) -> None:
    """On an ext4 of its own: full while the minimal system is made."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(size_mib << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    home.root.mkdir()
    subprocess.run(["mount", "-o", "loop", str(disk), str(home.root)], check=True)
    try:
        engine = open_engine("native", home)
        assert isinstance(engine, NativeEngine)
        with pytest.raises(RuntimeFault) as caught:
            builder.build(find("python"), engine.store, home)
        assert caught.value.code == "out_of_space", str(caught.value)
        assert list((home.images / "ingest").iterdir()) == []
        assert engine.images() == () or [image.references for image in engine.images()] == [
            ("slipway.local/busybox-base:latest",)
        ]
        engine.teardown()
    finally:
        subprocess.run(["umount", str(home.root)], check=True)


# ------------------------------------------------------------------------------------------------ other people's content


def claim(shop: Registry, name: str, *, config: dict[str, object], blob: str, size: int) -> str:
    """An image whose manifest and configuration say what they like."""
    raw = json.dumps(config).encode()
    rows = [{"mediaType": LAYER, "digest": blob, "size": size}]
    head = {"mediaType": CONFIG, "digest": digest(raw), "size": len(raw)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": head, "layers": rows}).encode()
    shop.blobs[digest(raw)] = raw
    shop.manifests[name, "latest"] = shop.manifests[name, digest(manifest)] = manifest
    return f"{shop.address}/{name}:latest"


def platform(**fields: object) -> dict[str, object]:
    return {"architecture": ARCHITECTURE, "os": "linux", "config": {}, **fields}


def test_naming_a_layer_of_another_image_does_not_give_it(engine: NativeEngine, shop: Registry) -> None:
    """Its diff_id is in every copy of the other image's configuration, and no secret."""
    secret = layer({"secret": b"theirs"})
    engine.pull(shop.put("theirs", secret))
    mine = gzip.compress(layer({"mine": b"x"}))
    shop.blobs[digest(mine)] = mine
    rootfs = {"type": "layers", "diff_ids": [digest(secret)]}
    with pytest.raises(ImageCorrupt):
        engine.pull(claim(shop, "mine", config=platform(rootfs=rootfs), blob=digest(mine), size=len(mine)))


def test_a_registry_gets_no_use_of_a_blob_that_it_does_not_have(engine: NativeEngine, shop: Registry) -> None:
    """Another registry's blob is here, and this one knows its digest."""
    secret = layer({"secret": b"theirs"})
    blob = gzip.compress(secret, mtime=0)
    engine.pull(shop.put("theirs", secret))
    rootfs = {"type": "layers", "diff_ids": [digest(secret)]}
    with registry() as other:
        with pytest.raises(RuntimeFault):
            engine.pull(claim(other, "mine", config=platform(rootfs=rootfs), blob=digest(blob), size=len(blob)))
        assert f"/v2/mine/blobs/{digest(blob)}" in other.served, "it was asked for it"
        other.blobs[digest(blob)] = blob
        assert engine.pull(f"{other.address}/mine").layers[0].digest == digest(blob)
        other.served.clear()
        engine.pull(f"{other.address}/mine")
        assert not [path for path in other.served if "/blobs/" in path], "once is enough"


def test_nobody_pulls_a_built_in_image_from_anywhere(engine: NativeEngine, home: Home) -> None:
    """The name is this node's own: whoever answers to it in the network must not give every tenant its nginx."""
    before = traces(home)
    with pytest.raises(RuntimeFault) as caught:
        engine.pull("slipway.local/nginx:latest", insecure=True)
    assert caught.value.field == "image"
    assert traces(home).new_since(before) == {}


# ------------------------------------------------------------------------------------------------ configurations


@pytest.mark.parametrize(
    "fields",
    [
        {"config": []}, {"config": {"Env": "PATH=/bin"}}, {"config": {"Env": [1]}}, {"config": {"Cmd": "sh"}},
        {"config": {"Entrypoint": {"a": 1}}}, {"config": {"User": 5}}, {"config": {"Labels": ["a"]}}, {"config": {"ExposedPorts": 80}},
        {"config": {"WorkingDir": ["/"]}}, {"config": {"StopSignal": 9}}, {"history": ["x"]}, {"history": {"a": 1}}, {"created": 1},
        {"config": {"Labels": {"a": "b\0c"}}}, {"config": {"Env": ["A=\ud800"]}}, {"config": {"x": float("nan")}}, {"rootfs": []},
        {"rootfs": {"diff_ids": ["../../x"]}}, {"rootfs": {"diff_ids": [None]}}, {"architecture": ["amd64"]},
    ],
)  # fmt: skip
def test_a_configuration_of_the_wrong_kind_is_a_sentence_and_harms_no_list(
    engine: NativeEngine, home: Home, shop: Registry, fields: dict[str, object]
) -> None:
    tar = layer({"a": b"x"})
    blob = gzip.compress(tar)
    shop.blobs[digest(blob)] = blob
    honest = platform(rootfs={"type": "layers", "diff_ids": [digest(tar)]})
    reference = claim(shop, "odd", config={**honest, **fields}, blob=digest(blob), size=len(blob))
    before = traces(home)
    with pytest.raises(RuntimeFault) as caught:
        engine.pull(reference)
    assert caught.value.hint
    assert traces(home).new_since(before) == {}
    assert engine.images() == ()


@pytest.mark.parametrize("where", ["manifest", "index", "config"])
@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"manifests": 5}', b'{"manifests": [{"digest": 7}]}',
                                     b'{"config": {"digest": "sha256:x", "size": 1}, "layers": []}', b'{"layers": [5], "config": {}}'])  # fmt: skip
def test_what_is_no_description_is_a_sentence(
    engine: NativeEngine, home: Home, shop: Registry, where: str, content: bytes
) -> None:
    if where == "config":
        shop.blobs[digest(content)] = content
        manifest = {"schemaVersion": 2, "config": {"digest": digest(content), "size": len(content)}, "layers": []}
        shop.manifests["odd", "latest"] = json.dumps(manifest).encode()
    elif where == "index":
        row = {"digest": digest(content), "platform": {"os": "linux", "architecture": ARCHITECTURE}}
        shop.manifests["odd", digest(content)] = content
        shop.manifests["odd", "latest"] = json.dumps({"manifests": [row]}).encode()
    else:
        shop.manifests["odd", "latest"] = content
    before = traces(home)
    with pytest.raises(RuntimeFault) as caught:
        engine.pull(f"{shop.address}/odd")
    assert caught.value.hint
    assert traces(home).new_since(before) == {}


@pytest.mark.parametrize(
    ("size", "field"),
    [(-1, "layers"), (True, "layers"), (10**18, "layers"), (10**18, "config"), (3, "layers"), (10**6, "layers")],
)
def test_a_size_that_lies_is_a_sentence(
    engine: NativeEngine, home: Home, shop: Registry, size: int, field: str
) -> None:
    reference = shop.put("app", layer({"a": b"x"}))
    manifest = json.loads(shop.manifests["app", "latest"])
    row = manifest["layers"][0] if field == "layers" else manifest["config"]
    row["size"] = size
    shop.manifests["app", "latest"] = json.dumps(manifest).encode()
    before = traces(home)
    with pytest.raises(RuntimeFault) as caught:
        engine.pull(reference)
    assert caught.value.hint
    assert not getattr(caught.value, "retryable", True), "no later try can help"
    assert traces(home).new_since(before) == {}


def test_a_size_that_lies_of_what_is_here_is_a_sentence(engine: NativeEngine, shop: Registry) -> None:
    """The bytes are not asked for again; the size would stand in every list."""
    image = engine.pull(shop.put("app", layer({"a": b"x"})))
    manifest = json.loads(shop.manifests["app", "latest"])
    manifest["layers"][0]["size"] += 1
    shop.manifests["app", "latest"] = json.dumps(manifest).encode()
    with pytest.raises(ImageCorrupt):
        engine.pull(f"{shop.address}/app")
    assert engine.images() == (image,)


@pytest.mark.parametrize(
    ("what", "media_type"),
    [
        ("config", "application/vnd.cncf.helm.config.v1+json"),
        ("layers", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
    ],
)
def test_what_is_no_container_image_is_unsuitable(
    engine: NativeEngine, shop: Registry, what: str, media_type: str
) -> None:
    reference = shop.put("app", layer({"a": b"x"}))
    manifest = json.loads(shop.manifests["app", "latest"])
    (manifest["layers"][0] if what == "layers" else manifest["config"])["mediaType"] = media_type
    shop.manifests["app", "latest"] = json.dumps(manifest).encode()
    with pytest.raises(RuntimeFault) as caught:
        engine.pull(reference)
    assert caught.value.code == "image_unsuitable"


# ------------------------------------------------------------------------------------------------ archives


def archive(path: Path, changes: dict[str, bytes | None]) -> Path:
    """A ``docker save`` archive with some of its files replaced or left out."""
    archives.write(path.with_suffix(".honest"))
    with tarfile.open(path.with_suffix(".honest")) as source, tarfile.open(path, "w") as target:
        for member in source:
            held = source.extractfile(member)
            content = changes.get(member.name, held.read() if held else b"")
            if content is not None:
                member.size = len(content)
                target.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"manifest.json": b"{"}, {"manifest.json": b"[5]"}, {"manifest.json": b"{}"}, {"manifest.json": b"\xff"}, {"manifest.json": b"[]"},
        {"manifest.json": b'[{"Config": 5, "Layers": []}]'}, {"manifest.json": b'[{"Config": "x", "Layers": null}]'}, {"manifest.json": None},
        {"layer0/layer.tar": None}, {"layer0/layer.tar": b"x"}, {"manifest.json": b"[" * 100_000},
    ],
)  # fmt: skip
def test_a_broken_archive_is_a_sentence_and_leaves_nothing(
    engine: NativeEngine, home: Home, tmp_path: Path, changes: dict[str, bytes | None]
) -> None:
    broken = archive(tmp_path / "broken.tar", changes)
    before = traces(home)
    with pytest.raises(RuntimeFault) as caught:
        engine.load(broken)
    assert caught.value.hint
    assert traces(home).new_since(before) == {}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_archive_of_docker_has_links_in_place_of_layers_and_several_names(
    engine: NativeEngine, tmp_path: Path, kind: bytes
) -> None:
    """As ``docker save`` wrote a layer that an image has twice, before its version 25."""
    same = archives.layer({"file": b"x"})
    honest, linked = archives.write(tmp_path / "honest.tar", layers=[same, same]), tmp_path / "linked.tar"
    with tarfile.open(honest) as source, tarfile.open(linked, "w") as target:
        for member in source:
            held = source.extractfile(member)
            content = held.read() if held else b""
            if member.name == "layer1/layer.tar":
                member.type = kind
                member.linkname = "../layer0/layer.tar" if kind == tarfile.SYMTYPE else "layer0/layer.tar"
                member.size, content = 0, b""
            elif member.name == "manifest.json":
                content = content.replace(b'"bench/busybox:latest"', b'"test/two:1", "test/two:2"')
                member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    [image] = engine.load(linked)
    assert image.references == ("docker.io/test/two:1", "docker.io/test/two:2")
    assert [one.diff_id for one in image.layers] == [digest(same)] * 2


@pytest.mark.parametrize("target", ["layer1/layer.tar", "/etc/passwd", "../../layer0/layer.tar", "nothing"])
def test_a_link_that_leads_nowhere_in_its_archive_is_a_broken_one(
    engine: NativeEngine, tmp_path: Path, target: str
) -> None:
    layers = [archives.layer({"file": b"x"})] * 2
    honest, linked = archives.write(tmp_path / "honest.tar", layers=layers), tmp_path / "linked.tar"
    with tarfile.open(honest) as source, tarfile.open(linked, "w") as opened:
        for member in source:
            content = source.extractfile(member)
            if member.name == "layer1/layer.tar":
                member.type, member.linkname, member.size = tarfile.SYMTYPE, f"../{target}".replace(".//", "/"), 0
            opened.addfile(member, content if member.isfile() else None)
    with pytest.raises(ImageCorrupt):
        engine.load(linked)


@pytest.mark.parametrize("needed", ["\N{SUPERSCRIPT TWO}", "9" * 6000, "-1", ""])
def test_an_image_that_says_nonsense_of_its_memory_says_nothing(
    engine: NativeEngine, tmp_path: Path, needed: str
) -> None:
    odd = archives.write(tmp_path / "odd.tar", says={"Labels": {MEMORY_LABEL: needed}})
    assert engine.create(spec(engine.load(odd)[0].id)).state is State.CREATED


def test_a_folder_is_no_archive(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ImageCorrupt):
        engine.load(tmp_path)


def test_an_archive_cannot_name_itself_a_built_in_image(engine: Engine, tmp_path: Path) -> None:
    honest = archives.write(tmp_path / "fake.tar", reference="slipway.local/nginx:latest")
    with pytest.raises(RuntimeFault) as caught:
        engine.load(honest)
    assert caught.value.field == "image"
    assert engine.images() == ()
    assert engine.load(honest, reference="slipway.local/own:1")[0].references == ("slipway.local/own:1",)


def test_a_container_that_dug_deeper_than_any_path_is_removed(engine: NativeEngine, home: Home, shop: Registry) -> None:
    image = engine.pull(shop.put("app", busybox()))
    engine.create(spec(image.id))
    deep(home.container("ckept") / "upper", 2500)
    engine.remove("ckept", force=True)
    assert list(home.containers.iterdir()) == []
