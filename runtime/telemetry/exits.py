"""Exits, as conmon tells them: a file named after the container, holding its exit code, appears in one folder (inotify(7))."""

from __future__ import annotations

import os
import re
from pathlib import Path

from runtime.kernel import inotify

CODE = re.compile(rb"-?\d{1,10}")


class ExitWatch:
    """A descriptor to wait on and a non-blocking read, for an event loop or a poll.

    A folder that is taken away, as a teardown does, is made and watched again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = inotify.opened()
        self._watch()

    def _watch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        inotify.watch(self._fd, self.folder, inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def read(self) -> tuple[str, ...]:
        """Ids of the containers that have exited since the last call; conmon's temporary names are left out."""
        ids: list[str] = []
        for one in inotify.happened(self._fd):
            name = one.name.decode()
            if one.mask & inotify.IN_IGNORED:
                self._watch()
            elif name and "." not in name:
                ids.append(name)
        return tuple(dict.fromkeys(ids))


def exit_code(folder: Path, container: str) -> int | None:
    """None: conmon has not said, or what it said is damaged."""
    try:
        text = (folder / container).read_bytes().strip()
    except FileNotFoundError:
        return None
    return int(text) if CODE.fullmatch(text) else None
