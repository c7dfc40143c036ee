"""Content by digest, in the OCI image layout: ``blobs/sha256/<hex>``; what is not yet whole is in ``ingest/``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from runtime.errors import ImageCorrupt, NotFound
from runtime.home import Home, atomic_write
from runtime.image.room import disk_full, out_of_space

CHUNK = 1 << 18
MANIFEST_LIMIT = 8 << 20


class Blobs:
    def __init__(self, home: Home) -> None:
        self.root = home.images
        self._folder = self.root / "blobs" / "sha256"
        self.ingest = self.root / "ingest"

    def prepare(self) -> None:
        for folder in (self._folder, self.ingest):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        layout = self.root / "oci-layout"
        if not layout.exists():
            atomic_write(layout, b'{"imageLayoutVersion": "1.0.0"}')

    def path(self, digest: str) -> Path:
        """Raises ImageCorrupt for what is not a sha256 digest (it would name a file elsewhere)."""
        algorithm, _, hexadecimal = digest.partition(":")
        if algorithm != "sha256" or len(hexadecimal) != 64 or not set(hexadecimal) <= set("0123456789abcdef"):
            raise ImageCorrupt(
                "The image names content by something that is not a sha256 digest.", hint="Use another image."
            )
        return self._folder / hexadecimal

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def digests(self) -> tuple[str, ...]:
        return tuple(f"sha256:{entry.name}" for entry in self._folder.iterdir() if not entry.name.startswith("."))

    def json(self, digest: str) -> dict[str, Any]:
        """Raises NotFound, ImageCorrupt."""
        try:
            content = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFound("A part of the image is missing.", hint="Pull it again.") from None
        return parse_json(content)

    def put(self, content: bytes) -> str:
        """Small content, such as a manifest; returns its digest.  Raises OutOfSpace."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self.has(digest):
            try:
                atomic_write(self.path(digest), content)
            except OSError as error:
                raise (out_of_space() if disk_full(error) else error) from None
        return digest

    def copy_in(self, source: BinaryIO, digest: str | None = None) -> tuple[str, int]:
        """Store a stream; returns digest and size.  Raises ImageCorrupt when it is not what ``digest`` says, OutOfSpace."""
        temporary = self.ingest / f"{os.getpid()}.{id(source)}.part"
        try:
            with temporary.open("wb") as target:
                actual, size = hash_into(iter(lambda: source.read(CHUNK), b""), target)
                target.flush()
                os.fsync(target.fileno())
            if digest is not None and actual != digest:
                raise digest_mismatch()
            os.replace(temporary, self.path(actual))
        except OSError as error:
            raise (out_of_space() if disk_full(error) else error) from None
        finally:
            temporary.unlink(missing_ok=True)
        return actual, size


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
