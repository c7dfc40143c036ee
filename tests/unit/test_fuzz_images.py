"""What strangers name, describe and pack: references, manifests, indexes, configurations, archives.  A value or our own error, and nothing outside."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.api import no_progress
from runtime.errors import ImageFault, InvalidSpec, RuntimeFault
from runtime.home import Home
from runtime.image import archive, pull
from runtime.image.blobs import parse_json
from runtime.image.config import check_fields
from runtime.image.reference import Reference
from runtime.image.store import ImageStore, architecture
from runtime.image.unpack import unpack
from runtime.kernel.tree import remove_tree
from tests import archives
from tests.unit.fuzzing import JSON, ODD_TEXT, bent, fuzzed

DIGEST = "sha256:" + "a" * 64
MANIFEST = {
    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 10},
    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 10}],
}  # fmt: skip
INDEX = [
    {
        "mediaType": MANIFEST["mediaType"],
        "digest": DIGEST,
        "size": 5,
        "platform": {"os": "linux", "architecture": architecture(), "variant": "v2"},
    },
    {
        "mediaType": MANIFEST["mediaType"],
        "digest": DIGEST,
        "size": 5,
        "platform": {"os": "windows", "architecture": "amd64"},
    },
]
CONFIG = {
    "architecture": architecture(), "os": "linux", "created": "2026-01-01T00:00:00Z",
    "config": {"Env": ["A=b"], "Cmd": ["a"], "Entrypoint": None, "User": "0", "WorkingDir": "/", "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}},
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "history": [{"created_by": "x"}],
}  # fmt: skip


@fuzzed(200)
@given(
    text=ODD_TEXT
    | st.from_regex(
        r"[a-z:/@.\[\]]{1,12}(:[0-9]{1,6})?/[a-z]{1,5}(:[a-z]{0,3})?(@sha256:[0-9a-f]{0,64})?", fullmatch=True
    )
)
def test_a_reference_is_one_or_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidSpec):
        parsed = Reference.parse(text)
        assert Reference.parse(str(parsed)) == parsed
        assert not {"", ".", ".."} & set(parsed.repository.split("/"))
        assert str(parsed).isascii()
        assert str(parsed).isprintable()


@fuzzed(150)
@given(manifest=bent(MANIFEST), index=bent(INDEX), config=bent(CONFIG))
def test_a_description_is_one_or_is_refused(tmp_path: Path, manifest: Any, index: Any, config: Any) -> None:
    store = ImageStore(Home(tmp_path / "home", "tfuzz", "10.1.0.0/16", 0x50000000))
    if isinstance(manifest, dict):
        with contextlib.suppress(ImageFault):
            found, layers = pull._shape(manifest)
            assert found["size"] >= 0
            assert all(row["digest"] == DIGEST for row in (found, *layers))
    with contextlib.suppress(ImageFault):
        assert pull.choose_platform(index) == DIGEST
    if isinstance(config, dict):
        with contextlib.suppress(ImageFault):
            diff_ids = store.check_config(config, 1)
            check_fields(config)
            assert all(isinstance(row, str) for row in diff_ids)
            json.dumps(config, allow_nan=False).encode()


@fuzzed(100)
@given(
    content=st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b"[" * 50_000, b'{"a": NaN}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\\ud800"}'])
)
def test_words_of_a_registry_are_an_object_or_damage(content: bytes) -> None:
    with contextlib.suppress(ImageFault):
        assert isinstance(parse_json(content), dict)


# ------------------------------------------------------------------------------------------- archives

HONEST = archives.entries(
    archives.folder("a"), archives.file("a/b", b"x" * 700), archives.link("l", "a"), archives.hard_link("h", "a/b"), archives.file("a/.wh.c"),
    archives.file("../up", b"x"), archives.link("out", "../../.."), archives.file("out/x", b"x"), archives.file("n" * 120, b"long"),
)  # fmt: skip
"""With what is refused in it, so that damage to a name or a kind makes new ways out."""
NAMES = st.sampled_from(
    [
        "a",
        "a/b",
        "../x",
        "/x",
        "l",
        "l/x",
        "l/../x",
        ".",
        "",
        "..",
        "a/../../x",
        ".wh.a",
        ".wh...",
        "a/.wh..wh..opq",
        "l/.wh.x",
        "a//b",
        "\0",
        "x" * 300,
        "deep/" * 60 + "f",
    ]
)
KINDS = st.sampled_from(
    [
        tarfile.REGTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"S",
        b"x",
        b"?",
    ]
)


def packed(rows: list[tuple[str, bytes, str, int]]) -> bytes:
    made = []
    for name, kind, target, mode in rows:
        entry, content = archives.file(name, b"content" if kind == tarfile.REGTYPE else b"", mode=mode)
        entry.type, entry.linkname = kind, target
        made.append((entry, content))
    return archives.entries(*made)


@pytest.fixture
def place(tmp_path: Path) -> Callable[[], Path]:
    """A folder for a layer, anew each time, with a sentinel beside it."""

    def anew() -> Path:
        folder = tmp_path / "place"
        remove_tree(folder)
        (folder / "fs").mkdir(parents=True)
        (folder / "secret").write_text("beside")
        return folder / "fs"

    return anew


def unpacked(root: Path, raw: bytes) -> None:
    """Whatever is in it: our own errors, and nothing beside the folder."""
    with contextlib.suppress(RuntimeFault):
        unpack(io.BytesIO(raw), root)
    assert sorted(os.listdir(root.parent)) == ["fs", "secret"]
    assert (root.parent / "secret").read_text() == "beside"
    assert (root.parent / "secret").stat().st_nlink == 1


@pytest.mark.root
@fuzzed(80)
@given(
    rows=st.lists(st.tuples(NAMES, KINDS, NAMES | st.just("../secret"), st.integers(0, 0o7777)), min_size=1, max_size=6)
)
def test_a_layer_of_any_entries_stays_inside(
    place: Callable[[], Path], rows: list[tuple[str, bytes, str, int]]
) -> None:
    unpacked(place(), packed(rows))


@pytest.mark.root
@fuzzed(80)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(HONEST) - 1), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6
    ),
    cut=st.integers(0, len(HONEST)),
)
def test_a_layer_with_any_damage_stays_inside(
    place: Callable[[], Path], changes: list[tuple[int, bytes]], cut: int
) -> None:
    raw = bytearray(HONEST)
    for at, words in changes:
        raw[at : at + len(words)] = words
    unpacked(place(), bytes(raw[: cut or None]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return archives.write(tmp_path_factory.mktemp("saved") / "a.tar", layers=[archives.layer({"f": b"x"})]).read_bytes()


@pytest.mark.root
@fuzzed(60)
@given(
    changes=st.lists(st.tuples(st.integers(0, 8191), st.binary(min_size=1, max_size=8)), max_size=5),
    cut=st.integers(0, 10_240),
)
def test_a_saved_image_with_any_damage_is_loaded_or_refused(
    tmp_path: Path, saved: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    raw = bytearray(saved)
    for at, words in changes:
        raw[at : at + len(words)] = words
    load(tmp_path, bytes(raw[: cut or None]))


@pytest.mark.root
@fuzzed(60)
@given(
    index=bent(
        {
            "schemaVersion": 2,
            "manifests": [{"digest": DIGEST, "size": 1, "annotations": {"org.opencontainers.image.ref.name": "x"}}],
        }
    ),
    docker=bent([{"Config": "c", "RepoTags": ["a:b"], "Layers": ["l"]}]),
    which=st.booleans(),
)
def test_a_saved_image_of_any_description_is_loaded_or_refused(
    tmp_path: Path, index: Any, docker: Any, which: bool
) -> None:
    name, value = ("index.json", index) if which else ("manifest.json", docker)
    rows = [
        archives.file(name, json.dumps(value).encode()),
        archives.file("c", json.dumps(CONFIG).encode()),
        archives.file("l", archives.layer({"f": b"x"})),
    ]
    load(tmp_path, archives.entries(*rows))


def load(folder: Path, raw: bytes) -> None:
    home = Home(folder / "home", "tfuzz", "10.1.0.0/16", 0x50000000)
    store = ImageStore(home)
    store.blobs.prepare()
    file = folder / "image.tar"
    file.write_bytes(raw)
    with contextlib.suppress(RuntimeFault):
        for image in archive.load(store, file, reference=None, progress=no_progress):
            assert store.image(image.id).id == image.id
    assert sorted(os.listdir(folder)) == ["home", "image.tar"]
    store.images()
