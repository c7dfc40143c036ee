"""Claims on addresses, ports and names: a symbolic link each, that leads to nothing but says the claimer's id.

symlink(2) makes it with what it says in one step, and a journal writes both in one: neither a crash nor a power cut leaves a claim
that is nobody's.  It outlives the process that made it and is given back by the claimer's id alone, so a crash cannot leak one
that a sweep would not find.  Versions before wrote files, whose claims hold as well.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from runtime.api import ID_PATTERN
from runtime.kernel.tree import remove_tree

LONGEST = 64
"""Of what a claim says."""


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
        """None: nobody's, as one that somebody else made."""
        said = _said(self.folder / name)
        return said if said is not None and re.fullmatch(ID_PATTERN, said) else None

    def names(self) -> tuple[str, ...]:
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith(".")))

    def free(self, name: str, owner: str) -> bool:
        """Whether ``owner`` had it; what is nobody's goes.  Nobody may claim in its name meanwhile."""
        holder = self.owner(name)
        if holder is None:
            _forgotten(self.folder / name)
        return holder == owner and _unlinked(self.folder / name)

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


def _said(path: Path) -> str | None:
    """By a claim, whoever made it; None: it is gone, or says nothing that a claim could."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is no link
            raise
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(LONGEST).decode("ascii")
    except (OSError, ValueError):  # no file, or gone
        return None


def _forgotten(path: Path) -> bool:
    """Whether it was nobody's, as an empty file, which a power cut left of one that was written; it is gone then.

    Whoever else takes it for one waits for the lock and sees that the name is another's by now.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        return not re.fullmatch(ID_PATTERN, _said(path) or "") and _unlinked(path)
    finally:
        os.close(folder)


def _unlinked(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        remove_tree(file)
    return True
