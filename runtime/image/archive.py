"""Images from archives: an OCI image layout or what ``docker save`` writes, as tar, gzip or zstd (image-spec, image-layout.md)."""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from runtime.api import Image, Progress, Step
from runtime.errors import ImageCorrupt, ImageUnsuitable, InvalidSpec
from runtime.failpoint import failpoint
from runtime.image.blobs import MANIFEST_LIMIT, digest_mismatch, parse_json
from runtime.image.compression import DAMAGE, decompressed
from runtime.image.layer_writer import MOST_BYTES
from runtime.image.leases import Lease
from runtime.image.pull import choose_platform, may_be_ours
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.room import Room, disk_full, out_of_space
from runtime.image.store import CONFIG, MANIFEST, ImageStore

NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
NO_ARCHIVE: tuple[type[Exception], ...] = (
    *DAMAGE, tarfile.TarError, LookupError, TypeError, ValueError, AttributeError, RecursionError, IsADirectoryError,
)  # fmt: skip
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
MOST_LINKS = 40


def load(store: ImageStore, path: Path, *, reference: str | None, progress: Progress) -> tuple[Image, ...]:
    """See :meth:`runtime.api.Engine.load`.  ``reference`` names the image of an archive that holds one."""
    progress(Step("verify", detail=path.name))
    room = Room(store.blobs.ingest, MOST_BYTES)
    try:
        with (
            store.leases.lease("load") as lease,
            path.open("rb") as raw,
            tempfile.TemporaryFile(dir=store.blobs.ingest) as plain,
        ):
            stream = decompressed(cast("BinaryIO", raw))
            while chunk := stream.read(1 << 20):
                room.take(len(chunk))
                plain.write(chunk)
            plain.seek(0)
            failpoint("load.plain")
            with tarfile.open(fileobj=cast("BinaryIO", plain), mode="r:") as archive:
                return _Archive(store, archive, reference, progress, lease).load()
    except OverflowError:
        raise ImageUnsuitable("The archive is too large to load.", hint="Use a smaller image.") from None
    except NO_ARCHIVE:
        raise ImageCorrupt("The file is not an image archive, or is damaged.", hint="Save the image anew.") from None
    except FileNotFoundError:
        raise InvalidSpec("The archive is not there.", hint="Check the path.", field="archive") from None
    except OSError as error:
        if error.errno is None:  # gzip's own
            raise ImageCorrupt(
                "The file is not an image archive, or is damaged.", hint="Save the image anew."
            ) from None
        raise (out_of_space() if disk_full(error) else error) from None


class _Archive:
    def __init__(
        self, store: ImageStore, archive: tarfile.TarFile, reference: str | None, progress: Progress, lease: Lease
    ) -> None:
        self._store = store
        self._archive = archive
        self._reference = reference
        self._progress = progress
        self._lease = lease
        self._members = {
            member.name.removeprefix("./"): member
            for member in archive
            if member.isfile() or member.islnk() or member.issym()
        }

    def load(self) -> tuple[Image, ...]:
        if "index.json" in self._members:
            return self._oci()
        if "manifest.json" in self._members:
            return self._docker()
        raise ImageCorrupt(
            "The file is not an image archive.", hint="Save the image with docker save, or as OCI archive."
        )

    def _member(self, name: str) -> tarfile.TarInfo:
        """A file.  Docker before 25 has a link in the place of a layer that the archive has under another name.  Raises LookupError."""
        for _ in range(MOST_LINKS):
            member = self._members[name]
            if member.isfile():
                return member
            target = member.linkname if member.islnk() else posixpath.join(posixpath.dirname(name), member.linkname)
            name = posixpath.normpath(target)
        raise LookupError(name)

    def _bytes(self, name: str) -> bytes:
        member = self._member(name)
        source = self._archive.extractfile(member)
        if source is None or member.size > MANIFEST_LIMIT:
            raise ImageCorrupt("The archive's description of the image is too large.", hint="Save the image anew.")
        return source.read()

    def _blob(self, digest: str) -> bytes:
        content = self._bytes("blobs/" + digest.replace(":", "/"))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise digest_mismatch()
        return content

    def _take(self, name: str, digest: str | None) -> tuple[str, int]:
        source = self._archive.extractfile(self._member(name))
        return self._store.blobs.copy_in(cast("BinaryIO", source), self._lease, digest)

    # OCI -------------------------------------------------------------------------------------------------

    def _oci(self) -> tuple[Image, ...]:
        rows = parse_json(self._bytes("index.json"))["manifests"]
        if not rows:
            raise _empty()
        images = []
        for number, row in enumerate([row for row in rows if may_be_ours(row)] or rows):
            manifest = self._platform(row)
            parsed = parse_json(manifest)
            if parsed["config"]["size"] > MANIFEST_LIMIT:
                raise ImageCorrupt("The image's configuration is too large.", hint="Use another image.")
            for part in (parsed["config"], *parsed["layers"]):
                _, size = self._take("blobs/" + part["digest"].replace(":", "/"), part["digest"])
                if size != part["size"]:
                    raise digest_mismatch()
            annotations = row.get("annotations") or {}
            name = next((annotations[key] for key in NAME_ANNOTATIONS if key in annotations), "")
            images.append(self._store.adopt(manifest, self._name(name, number), self._lease, self._progress))
        return tuple(images)

    def _platform(self, row: Mapping[str, Any]) -> bytes:
        content = self._blob(row["digest"])
        parsed = parse_json(content)
        return self._blob(choose_platform(parsed["manifests"])) if "manifests" in parsed else content

    # docker save -----------------------------------------------------------------------------------------

    def _docker(self) -> tuple[Image, ...]:
        rows = json.loads(self._bytes("manifest.json"))
        if not isinstance(rows, list) or not rows:
            raise _empty()
        images = []
        for number, row in enumerate(rows):
            config = self._bytes(row["Config"])
            parse_json(config)
            layers = []
            for name in row["Layers"]:
                digest, size = self._take(name, None)
                layers.append({"mediaType": LAYER_TAR, "digest": digest, "size": size})
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": CONFIG,
                    "digest": self._store.blobs.put(config, self._lease),
                    "size": len(config),
                },
                "layers": layers,
            }
            content = json.dumps(manifest, sort_keys=True).encode()
            names = dict.fromkeys(self._name(name, number) for name in row.get("RepoTags") or [""])
            images.append([self._store.adopt(content, name, self._lease, self._progress) for name in names][-1])
        return tuple(images)

    def _name(self, name: str, number: int) -> Reference:
        """The caller's name, the archive's own, or one made of its place.  The archive's own is none of this node's."""
        if self._reference and number == 0:
            return Reference.parse(self._reference)
        if ":" not in name and "/" not in name:
            return Reference.parse(f"{BUILT_IN}/loaded/{name.lower() or f'image-{number}'}")
        found = Reference.parse(name)
        if found.registry == BUILT_IN:
            raise InvalidSpec(
                "The archive calls its image one that is built on this node.",
                hint="Give it another name.",
                field="image",
            )
        return found


def _empty() -> ImageCorrupt:
    return ImageCorrupt("The archive holds no image.", hint="Save the image anew.")
