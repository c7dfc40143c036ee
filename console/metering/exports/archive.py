"""A month's bundle as one ZIP file: the same bytes for the same month."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from console.metering.exports import bundle
from console.metering.models import Period

OLDEST = (1980, 1, 1, 0, 0, 0)
"""ZIP knows no time before; no file has the one at which it was made."""
MODE = 0o644 << 16


def zipped(period: Period) -> IO[bytes]:
    """An open file without a name, at its beginning: whoever closes it frees its room."""
    made = tempfile.TemporaryFile(prefix="slipway-bill-")  # noqa: SIM115 -- the caller's to close
    try:
        with tempfile.TemporaryDirectory(prefix="slipway-bill-") as root:
            folder = Path(root) / "bill"
            bundle.write(period, folder)
            _pack(folder, made, f"{period.tenant.slug}-{period.starts_at:%Y-%m}")
        made.seek(0)
    except BaseException:
        made.close()
        raise
    return made


def _pack(folder: Path, target: IO[bytes], top: str) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{top}/{path.name}", OLDEST)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, MODE
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as place:
                shutil.copyfileobj(source, place, 1 << 20)
