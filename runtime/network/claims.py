"""Claims on addresses and ports: a file each, made by O_EXCL, holding the claimer's id.

A claim outlives the process that made it and is given back by the claimer's id alone, so a crash cannot leak one
that a sweep would not find.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class Claims:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, name: str, owner: str) -> bool:
        """True when it is ``owner``'s now, also when it was already."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / name
        temporary = self._temporary(name, owner)
        try:
            temporary.write_text(owner, encoding="ascii")
            os.link(temporary, path)
        except FileExistsError:
            return self.owner(name) == owner
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def owner(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text(encoding="ascii")
        except FileNotFoundError:
            return None

    def names(self) -> tuple[str, ...]:
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith(".")))

    def free(self, name: str, owner: str) -> bool:
        """Whether ``owner`` had it, or had begun to take it when a crash came.  Nobody may claim in its name meanwhile."""
        begun = _unlinked(self._temporary(name, owner))
        had = self.owner(name) == owner and _unlinked(self.folder / name)
        return begun or had

    def holdings(self) -> Iterator[tuple[str, str]]:
        """(owner, name) of each claim, also of one that a crash cut short."""
        for name in self.names():
            owner = self.owner(name)
            if owner is not None:
                yield owner, name
        for path in sorted(self.folder.glob(".*.*")):
            _, owner, name = path.name.split(".", 2)
            yield owner, name

    def free_all(self, owner: str) -> None:
        """All that ``owner`` has here.  Nobody may claim in its name meanwhile."""
        for name in self.names():
            self.free(name, owner)
        for name in os.listdir(self.folder) if self.folder.is_dir() else ():
            if name.startswith(f".{owner}."):
                (self.folder / name).unlink(missing_ok=True)

    def _temporary(self, name: str, owner: str) -> Path:
        return self.folder / f".{owner}.{name}"


def _unlinked(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
