"""A month's bundle as one ZIP file, in a stream: the same bytes for the same month."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from console.metering.exports import bundle
from console.metering.models import Period
from console.metering.services import bundles

OLDEST = (1980, 1, 1, 0, 0, 0)
"""ZIP knows no time before; no file has the one at which it was made."""
MODE = 0o644 << 16
BLOCK = 1 << 18


class _Pipe:
    """What ``zipfile`` writes to; it cannot be gone back in."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def close(self) -> None:
        """Nor is there anything to give back."""

    def taken(self) -> bytes:
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found


def zipped(period: Period) -> Iterator[bytes]:
    """In constant memory, and of a closed month in the room of one file: each is made when those before it were read.

    An open month is rated anew meanwhile, so all of its files are made before the first is read, however slowly that goes.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-bill-") as root:
        folder = Path(root) / "bill"
        if period.state == Period.State.CLOSED:
            folder.mkdir()
            found = _made(period, folder)
        else:
            bundles.write(period.pk, folder)
            found = iter(sorted(folder.iterdir(), key=lambda path: path.name == bundle.MANIFEST))
        yield from _packed(found, f"{period.tenant.slug}-{period.starts_at:%Y-%m}")


def _made(period: Period, folder: Path) -> Iterator[Path]:
    """Each file in its turn, and the manifest last."""
    hashes = {}
    for name, make in bundle.files(period):
        make(folder / name)
        hashes[name] = bundle.hashed(folder / name)
        yield folder / name
    manifest = folder / bundle.MANIFEST
    manifest.write_text(bundle.manifest_text(hashes), encoding="utf-8")
    yield manifest


def _packed(found: Iterator[Path], top: str) -> Iterator[bytes]:
    """Each file goes once it was read."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for path in found:
            entry = zipfile.ZipInfo(f"{top}/{path.name}", OLDEST)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, MODE
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as place:
                while block := source.read(BLOCK):
                    place.write(block)
                    yield pipe.taken()
            path.unlink()
    yield pipe.taken()
