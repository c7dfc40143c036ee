"""Fingerprints of inputs, kept so that a second start does only what has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def fingerprint(*parts: object) -> str:
    """Of strings as they are, of files by content, of folders by name, size and time of every file below."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for line in _described(part):
                digest.update(line)
        else:
            digest.update(str(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _described(path: Path) -> Iterable[bytes]:
    if path.is_file():
        yield path.read_bytes()
        return
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for name in sorted(files):
            if not name.endswith((".pyc", ".mo")):
                entry = os.stat(os.path.join(folder, name))
                yield f"{folder}/{name} {entry.st_size} {entry.st_mtime_ns}\n".encode()


class Stamps:
    """One file a step, ``HOME/stamps/<step>``, that holds the fingerprint of what the step was last done with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fresh(self, step: str, mark: str) -> bool:
        try:
            return (self.folder / step).read_bytes() == mark.encode("ascii")
        except OSError:
            return False

    def put(self, step: str, mark: str) -> None:
        self.folder.mkdir(exist_ok=True)
        temporary = self.folder / f".{step}.new"
        with temporary.open("w", encoding="ascii") as file:
            file.write(mark)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / step)

    def drop(self, step: str) -> None:
        (self.folder / step).unlink(missing_ok=True)
