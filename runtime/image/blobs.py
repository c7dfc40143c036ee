"""Content by digest, in the OCI image layout: ``blobs/sha256/<hex>``; what is not yet whole is in ``ingest/``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from runtime.errors import ImageCorrupt, NotFound
from runtime.failpoint import failpoint
from runtime.home import Home, atomic_write
from runtime.image.leases import Lease
from runtime.image.room import Room, disk_full, out_of_space

CHUNK = 1 << 18
MANIFEST_LIMIT = 8 << 20
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: object) -> bool:
    return isinstance(text, str) and DIGEST.fullmatch(text) is not None


class Blobs:
    def __init__(self, home: Home) -> None:
        self.root = home.images
        self.folder = self.root / "blobs" / "sha256"
        self.ingest = self.root / "ingest"

    def prepare(self) -> None:
        for folder in self.folders():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        layout = self.root / "oci-layout"
        if not layout.exists():
            atomic_write(layout, b'{"imageLayoutVersion": "1.0.0"}')

    def folders(self) -> tuple[Path, ...]:
        return self.folder, self.ingest, self.root / "origins"

    def path(self, digest: str) -> Path:
        """Raises ImageCorrupt for what is not a sha256 digest (it would name a file elsewhere)."""
        if not is_digest(digest):
            raise ImageCorrupt(
                "The image names content by something that is not a sha256 digest.", hint="Use another image."
            )
        return self.folder / digest.removeprefix("sha256:")

    def part(self, digest: str, registry: str) -> Path:
        """Of a download from this registry: a slow or lying one must not hold up who gets the blob elsewhere."""
        return self.ingest / f"{self.path(digest).name}.{hashlib.sha256(registry.encode()).hexdigest()[:12]}.part"

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def digests(self) -> tuple[str, ...]:
        return tuple(f"sha256:{entry.name}" for entry in self.folder.iterdir() if not entry.name.startswith("."))

    # where it came from ----------------------------------------------------------------------------------

    def _origins(self, digest: str) -> Path:
        return self.root / "origins" / self.path(digest).name

    def came_from(self, digest: str, registry: str) -> bool:
        """Whether this registry has served the blob: only then may an image of it use the one that is here.

        Else a registry could name content that another tenant pulled from elsewhere and that it never had.
        """
        try:
            return self.has(digest) and registry in self._origins(digest).read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return False

    def arrived(self, digest: str, file: Path, registry: str) -> None:
        """``file``, whole, verified and on disk, becomes the blob; the caller holds the blob's lock."""
        origins = self._origins(digest)
        known = origins.read_text(encoding="utf-8").split() if origins.exists() else []
        os.replace(file, self.path(digest))
        failpoint("blob.arrived")
        atomic_write(origins, " ".join(sorted({*known, registry})).encode())

    def forget_origins(self, digest: str) -> None:
        self._origins(digest).unlink(missing_ok=True)

    # content ---------------------------------------------------------------------------------------------

    def json(self, digest: str) -> dict[str, Any]:
        """Raises NotFound, ImageCorrupt."""
        try:
            content = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFound("A part of the image is missing.", hint="Pull it again.") from None
        return parse_json(content)

    def put(self, content: bytes, lease: Lease) -> str:
        """Small content, such as a manifest; returns its digest.  Raises OutOfSpace."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        lease.hold([digest])
        if not self.has(digest):
            try:
                atomic_write(self.path(digest), content)
            except OSError as error:
                raise (out_of_space() if disk_full(error) else error) from None
        return digest

    def copy_in(self, source: BinaryIO, lease: Lease, digest: str | None = None) -> tuple[str, int]:
        """Store a stream; returns digest and size.  Raises ImageCorrupt when it is not what ``digest`` says, OutOfSpace."""
        temporary = self.ingest / f"{os.getpid()}.{os.urandom(4).hex()}.copy"
        try:
            with temporary.open("wb") as target:
                actual, size = hash_into(self._as_long_as_there_is_room(source), target)
                target.flush()
                os.fsync(target.fileno())
            if digest is not None and actual != digest:
                raise digest_mismatch()
            lease.hold([actual])
            failpoint("blob.copied")
            os.replace(temporary, self.path(actual))
        except OSError as error:
            raise (out_of_space() if disk_full(error) else error) from None
        finally:
            temporary.unlink(missing_ok=True)
        return actual, size

    def _as_long_as_there_is_room(self, source: BinaryIO) -> Iterator[bytes]:
        room = Room(self.ingest)
        while chunk := source.read(CHUNK):
            room.take(len(chunk))
            yield chunk


def hash_into(chunks: Iterable[bytes], target: BinaryIO) -> tuple[str, int]:
    """Write a stream; returns its digest and size."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return f"sha256:{digest.hexdigest()}", size


def digest_mismatch() -> ImageCorrupt:
    return ImageCorrupt(
        "A part of the image is not what its digest says: it was damaged on the way or in the registry.",
        hint="Try again; if it stays so, the image must be pushed anew.",
    )


def parse_json(content: bytes) -> dict[str, Any]:
    """Raises ImageCorrupt."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ImageCorrupt("The image's description is not JSON.", hint="The image must be pushed anew.")
    return value
