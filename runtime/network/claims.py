"""Claims on addresses, ports and names: a symbolic link each, that leads to nothing but says the claimer's id.

symlink(2) makes it with what it says in one step, and a journal writes both in one: neither a crash nor a power cut leaves a claim
that is nobody's.  It outlives the process that made it and is given back by the claimer's id alone, so a crash cannot leak one
that a sweep would not find.  Versions before wrote files, whose claims hold as well.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class Claims:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, name: str, owner: str) -> bool:
        """True when it is ``owner``'s now, also when it was already."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            try:
                os.symlink(owner, self.folder / name)
            except FileExistsError:
                if not _forgotten(self.folder / name):
                    return self.owner(name) == owner
            else:
                return True

    def owner(self, name: str) -> str | None:
        path = self.folder / name
        try:
            return os.readlink(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is a file
                raise
        try:
            return path.read_text(encoding="ascii") or None
        except FileNotFoundError:
            return None

    def names(self) -> tuple[str, ...]:
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith(".")))

    def free(self, name: str, owner: str) -> bool:
        """Whether ``owner`` had it.  Nobody may claim in its name meanwhile."""
        return self.owner(name) == owner and _unlinked(self.folder / name)

    def holdings(self) -> Iterator[tuple[str, str]]:
        """(owner, name) of each claim; what is nobody's goes."""
        for name in self.names():
            owner = self.owner(name)
            if owner is not None:
                yield owner, name
            else:
                _forgotten(self.folder / name)

    def free_all(self, owner: str) -> None:
        """All that ``owner`` has here.  Nobody may claim in its name meanwhile."""
        for name in self.names():
            self.free(name, owner)


def _forgotten(file: Path) -> bool:
    """Whether it was an empty file, which a power cut left of one that was written; it is gone then.

    Whoever else takes it for one waits for the lock and sees that the name is another's by now.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # a link, or gone
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        this = os.fstat(descriptor)
        return this.st_size == 0 and _is(file, this) and _unlinked(file)
    finally:
        os.close(descriptor)


def _is(file: Path, this: os.stat_result) -> bool:
    try:
        return os.path.samestat(file.lstat(), this)
    except FileNotFoundError:
        return False


def _unlinked(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
