"""One folder's content into another, owners mapped, as a tar that passes through a pipe: what packing and unpacking refuse is refused here."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

from runtime.image.copying import TreeWriter
from runtime.image.pack import Packer, Packing, everything
from runtime.kernel.beneath import FOLDER


def copy_tree(source: int, uid_base: int, target: Path) -> None:
    """From a folder whose owners begin at ``uid_base`` into one whose owners begin at 0.  Raises OutOfSpace, LimitExceeded, OSError."""
    reading, writing = os.pipe()
    root = os.open(target, FOLDER | os.O_CLOEXEC)
    try:
        with ThreadPoolExecutor(1) as pool:
            packed = pool.submit(_pack, source, uid_base, writing)
            with os.fdopen(reading, "rb") as stream:
                TreeWriter(root, "", 0, everything).take(cast("BinaryIO", stream))
                while stream.read(1 << 16):  # the end of the archive is padded
                    continue
            packed.result()
    finally:
        os.close(root)


def _pack(source: int, uid_base: int, writing: int) -> None:
    with os.fdopen(writing, "wb") as stream:
        packer = Packer(cast("BinaryIO", stream), Packing(uid_base))
        packer.tree(source, "", "")
        packer.close()
