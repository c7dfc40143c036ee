"""Layers come as plain tar, gzip or zstd; which, their first bytes say."""

from __future__ import annotations

import hashlib
import io
import zlib
from typing import BinaryIO, cast

import zstandard
from isal import igzip, isal_zlib

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SKIPPABLE = range(0x184D2A50, 0x184D2A60)
"""First word of a zstd frame that holds something else (RFC 8878, section 3.1.2); some archives begin with one."""
UNBOUNDED = 1 << 62
DAMAGE: tuple[type[Exception], ...] = (
    zlib.error, cast("type[Exception]", isal_zlib.error), zstandard.ZstdError, EOFError,
)  # fmt: skip
"""What a reader of :func:`decompressed` may raise for damaged content, beside an OSError without a number.

gzip is read by ISA-L, which takes half of zlib's processor time.
"""


def decompressed(source: BinaryIO) -> BinaryIO:
    """A stream of the plain content; ``source`` must be seekable."""
    magic = source.read(4)
    source.seek(0)
    if magic.startswith(GZIP_MAGIC):
        return cast("BinaryIO", igzip.IGzipFile(fileobj=source, mode="rb"))  # type: ignore[no-untyped-call]
    if magic == ZSTD_MAGIC or int.from_bytes(magic, "little") in SKIPPABLE:
        return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True))
    return source


class Hashing(io.RawIOBase):
    """Passes a stream on and knows the digest of what has passed.

    Raises OverflowError beyond ``limit`` bytes in all, and beyond ``budget`` more bytes, which its user sets anew as it goes.
    """

    def __init__(self, source: BinaryIO, limit: int) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()
        self._limit = limit
        self.size = 0
        self.budget = UNBOUNDED

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._source.read(size if size >= 0 else 1 << 20)
        self._sha256.update(content)
        self.size += len(content)
        self.budget -= len(content)
        if self.size > self._limit or self.budget < 0:
            raise OverflowError(self.size)
        return content

    def drain(self) -> None:
        self.budget = UNBOUNDED
        while self.read(1 << 20):
            continue

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"
