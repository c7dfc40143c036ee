"""Images into an archive that is read anywhere: an OCI image layout (image-spec, image-layout.md) or what ``docker load`` takes.

The same images give the same bytes.  Nothing is held in memory but one piece; what is read is verified as it passes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast

from runtime.api import Image, Progress, Step
from runtime.failpoint import failpoint
from runtime.image.blobs import CHUNK, digest_mismatch, parse_json
from runtime.image.compression import decompressed
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.store import MANIFEST, ImageStore, spellings

Form = Literal["oci", "docker"]
INDEX = "application/vnd.oci.image.index.v1+json"
FULL_NAME, SHORT_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class _Image:
    """What is saved of one: its manifest and configuration as they are stored, and the names it gets in the archive."""

    image: Image
    manifest: Mapping[str, Any]
    content: bytes
    config: bytes
    names: tuple[str, ...]


def save(store: ImageStore, texts: Sequence[str], target: BinaryIO, form: Form, progress: Progress) -> None:
    """See :meth:`runtime.api.ImageService.save`."""
    with store.held(texts, "save") as (_, found):
        images = [_read(store, image, texts) for image in {image.id: image for image in found}.values()]
        failpoint("save.held")
        with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            (_docker if form == "docker" else _oci)(_Writer(store, archive, progress), images)


def _read(store: ImageStore, image: Image, texts: Sequence[str]) -> _Image:
    content = store.blobs.path(image.id).read_bytes()
    manifest = parse_json(content)
    config = store.blobs.path(manifest["config"]["digest"]).read_bytes()
    for stored, digest in ((content, image.id), (config, manifest["config"]["digest"])):
        if f"sha256:{hashlib.sha256(stored).hexdigest()}" != digest:
            raise digest_mismatch()
    return _Image(image, manifest, content, config, _chosen(image, texts))


def _chosen(image: Image, texts: Sequence[str]) -> tuple[str, ...]:
    """The names that it was asked for by; all of them where it was asked for by its id."""
    if image.id in texts:
        return image.references
    spelled = {name for text in texts if not text.startswith("sha256:") for name in spellings(text)}
    return tuple(name for name in image.references if name in spelled)


class _Writer:
    """A tar in which nothing tells when or by whom it was made.  Raises ImageCorrupt for what is not what its digest says."""

    def __init__(self, store: ImageStore, archive: tarfile.TarFile, progress: Progress) -> None:
        self.store = store
        self._archive = archive
        self._progress = progress
        self._written: set[str] = set()
        self._folders: set[str] = set()
        self._done = 0
        self.total: int | None = None

    def bytes(self, name: str, content: bytes) -> None:
        self._add(name, len(content), cast("BinaryIO", io.BytesIO(content)))

    def blob(self, name: str, digest: str, size: int, opened: AbstractContextManager[BinaryIO]) -> None:
        """Once, however many images have it."""
        if name in self._written:
            return
        with opened as source:
            passing = _Passing(source, self._tell)
            self._add(name, size, cast("BinaryIO", passing))
        failpoint("save.layer")
        if passing.digest != digest:
            raise digest_mismatch()

    def _add(self, name: str, size: int, source: BinaryIO) -> None:
        if name in self._written:
            return
        self._written.add(name)
        self._below(name)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o644
        try:
            self._archive.addfile(entry, source)
        except OSError as error:
            if error.errno is None:  # tarfile's own: the source ended early
                raise digest_mismatch() from None
            raise

    def _below(self, name: str) -> None:
        parts = name.split("/")[:-1]
        for number in range(len(parts)):
            folder = "/".join(parts[: number + 1])
            if folder not in self._folders:
                self._folders.add(folder)
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                self._archive.addfile(entry)

    def _tell(self, size: int) -> None:
        self._done += size
        self._progress(Step("save", self._done, self.total))


class _Passing:
    def __init__(self, source: BinaryIO, passed: Callable[[int], None]) -> None:
        self._source = source
        self._passed = passed
        self._sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        held = bytearray()
        while len(held) < size and (chunk := self._source.read(min(size - len(held), CHUNK))):
            held += chunk
        self._sha256.update(held)
        self._passed(len(held))
        return bytes(held)

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


# ------------------------------------------------------------------------------------------------ OCI


def _oci(writer: _Writer, images: Sequence[_Image]) -> None:
    blobs = writer.store.blobs
    rows = {row["digest"]: row["size"] for one in images for row in one.manifest["layers"]}
    writer.total = sum(rows.values())
    writer.bytes("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [_descriptor(one, name) for one in images for name in one.names or ("",)],
    }
    writer.bytes("index.json", _json(index))
    for one in images:
        writer.bytes(_place(one.image.id), one.content)
        writer.bytes(_place(one.manifest["config"]["digest"]), one.config)
    for digest, size in sorted(rows.items()):
        writer.blob(_place(digest), digest, size, blobs.path(digest).open("rb"))


def _descriptor(one: _Image, name: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "mediaType": one.manifest.get("mediaType") or MANIFEST,
        "digest": one.image.id,
        "size": len(one.content),
        "platform": {"architecture": one.image.architecture, "os": one.image.os},
    }
    known = Reference.parse(name) if name else None
    if known and known.registry == BUILT_IN:  # a name that is this node's own means nothing elsewhere
        row["annotations"] = {SHORT_NAME: known.repository.replace("/", "-")}
    elif known:
        row["annotations"] = {FULL_NAME: name, SHORT_NAME: known.tag or "latest"}
    return row


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


# ------------------------------------------------------------------------------------------------ docker


def _docker(writer: _Writer, images: Sequence[_Image]) -> None:
    """Layers by diff_id, plain, as docker has them.  Names that are this node's own stay here."""
    layers = {layer.diff_id: layer.digest for one in images for layer in one.image.layers}
    sizes = {diff_id: _plain_size(writer.store, digest) for diff_id, digest in sorted(layers.items())}
    writer.total = sum(sizes.values())
    rows = [
        {
            "Config": f"{_hex(one.manifest['config']['digest'])}.json",
            "RepoTags": [name for name in one.names if Reference.parse(name).registry != BUILT_IN and "@" not in name]
            or None,
            "Layers": [_layer_name(layer.diff_id) for layer in one.image.layers],
        }
        for one in images
    ]
    writer.bytes("manifest.json", _json(rows))
    for one in images:
        writer.bytes(f"{_hex(one.manifest['config']['digest'])}.json", one.config)
    for diff_id, size in sizes.items():
        writer.blob(_layer_name(diff_id), diff_id, size, _plain(writer.store, layers[diff_id]))


def _layer_name(diff_id: str) -> str:
    return f"{_hex(diff_id)}/layer.tar"


def _hex(digest: str) -> str:
    return digest.partition(":")[2]


def _plain_size(store: ImageStore, digest: str) -> int:
    """The header of an entry comes before it, so a layer is decompressed twice rather than kept."""
    with _plain(store, digest) as source:
        return sum(map(len, iter(lambda: source.read(CHUNK), b"")))


@contextlib.contextmanager
def _plain(store: ImageStore, digest: str) -> Iterator[BinaryIO]:
    with store.blobs.path(digest).open("rb") as raw:
        yield decompressed(cast("BinaryIO", raw))
