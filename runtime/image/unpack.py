"""One layer, a tar written by somebody else, into a folder that overlayfs can use as a lower (image-spec, layer.md).

Refused: absolute names and ``..``, device nodes, hard links to what the layer does not have, owners above 65535, headers
that are damaged or larger than any honest one, archives beyond the limits, and what would fill the node's disk.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self, cast

from runtime.errors import EngineFault, ImageCorrupt, ImageUnsuitable
from runtime.image.compression import DAMAGE as PACKED_DAMAGE
from runtime.image.compression import Hashing, decompressed
from runtime.image.layer_writer import MOST_BYTES, OPAQUE, WHITEOUT, LayerWriter
from runtime.image.room import disk_full, out_of_space
from runtime.kernel.overlay import OPAQUE_XATTR

__all__ = ["OPAQUE", "OPAQUE_XATTR", "WHITEOUT", "diff_id", "unpack"]

MOST_ENTRIES = 2_000_000
MOST_HEADER = 1 << 20
"""Bytes of headers of one entry: tarfile holds them in memory."""
MOST_GLOBAL_HEADERS = 64
READ = 1 << 16
"""Bytes that tarfile reads at once: its own 10 KiB cost more than what is done with them."""


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header in the middle of an archive for its end; here it is an error."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        made = super().frombuf(buf, encoding, errors)
        if made.size < 0:
            raise ValueError("an entry of negative size")
        return made

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except _END:
            raise
        except _HEADER_ERROR as error:
            raise ValueError(str(error)) from None


_END = (tarfile.EOFHeaderError, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]
_HEADER_ERROR = tarfile.HeaderError
DAMAGE: tuple[type[Exception], ...] = (*PACKED_DAMAGE, tarfile.TarError, UnicodeError, ValueError, RecursionError)


def unpack(source: BinaryIO, target: Path) -> tuple[str, int]:
    """Returns the diff_id and the uncompressed size.  ``target`` exists and is empty; after an error it holds a part.

    Raises ImageCorrupt, ImageUnsuitable, OutOfSpace, EngineFault (the node's disk fails).
    """
    try:
        stream = Hashing(decompressed(source), MOST_BYTES)
        writer = LayerWriter(target)
        try:
            _write(stream, writer)
            stream.drain()
            writer.finish()
        finally:
            writer.close()
    except OverflowError:
        raise ImageUnsuitable("A layer of the image is too large to unpack.", hint="Use a smaller image.") from None
    except DAMAGE:
        raise _damaged() from None
    except OSError as error:
        raise _fault(error) from None
    return stream.digest, stream.size


def diff_id(source: BinaryIO) -> str:
    """Of a layer that is not unpacked.  Raises ImageCorrupt, ImageUnsuitable."""
    stream = Hashing(decompressed(source), MOST_BYTES)
    try:
        stream.drain()
    except OverflowError:
        raise ImageUnsuitable("A layer of the image is too large to unpack.", hint="Use a smaller image.") from None
    except PACKED_DAMAGE:
        raise _damaged() from None
    except OSError as error:
        raise _fault(error) from None
    return stream.digest


def _write(stream: Hashing, writer: LayerWriter) -> None:
    for member, archive in _members(stream):
        writer.write(member, archive)


def entries(source: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Each entry of a plain tar with the archive that it is in, in constant memory; read no other before its content is read.

    Raises ImageCorrupt, ImageUnsuitable (more or larger than any honest archive); OSError of ``source``.
    """
    try:
        yield from _members(Hashing(source, MOST_BYTES))
    except OverflowError:
        raise ImageUnsuitable("The archive is too large to load.", hint="Copy parts of it.") from None
    except DAMAGE:
        raise _damaged() from None


def _members(stream: Hashing) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    before = stream.budget
    stream.budget = MOST_HEADER
    with tarfile.open(
        fileobj=cast("BinaryIO", stream), mode="r|", bufsize=READ, tarinfo=_Header, errorlevel=2
    ) as archive:
        for _ in range(MOST_ENTRIES):
            stream.budget = MOST_HEADER
            member = archive.next()
            if member is None:
                return
            if member.size < 0 or len(archive.pax_headers) > MOST_GLOBAL_HEADERS:
                raise _damaged()
            stream.budget = before
            yield member, archive
            archive.members.clear()  # type: ignore[attr-defined]  # else all of them stay in memory
    raise OverflowError(MOST_ENTRIES)


def _damaged() -> ImageCorrupt:
    return ImageCorrupt("A layer of the image is damaged.", hint="The image must be pushed anew.")


def _fault(error: OSError) -> Exception:
    if disk_full(error):
        return out_of_space()
    if error.errno is None:  # gzip's own
        return _damaged()
    return EngineFault("The node's disk does not take the image.", hint="Look at the node's disk and its log.")
