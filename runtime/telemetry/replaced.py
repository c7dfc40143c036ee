"""How often a file was replaced by another of its name: its readers cannot see those that came and went between two looks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from threading import Lock

from runtime import logs
from runtime.kernel import inotify

log = logs.of(__name__)


class Replaced:
    """Counts by rename(2) to ``path``, from when it was made on.  Usable from several threads.  Close it after use.

    Where the kernel gives no watch (its limits ``fs.inotify.*`` are reached; the folder is gone) the log says so and it counts none.
    """

    def __init__(self, path: Path) -> None:
        self.folder, self.name = path.parent, os.fsencode(path.name)
        self.times = 0
        _watches.add(self)

    def count(self) -> int:
        """What anybody has seen of a replacement is counted.

        The kernel tells of a rename a moment after names lead to the new file, but before it lets go of the folder's lock, which
        listing the folder waits for.  After a queue that ran over it is one more than is known of.
        """
        with contextlib.suppress(FileNotFoundError):
            os.listdir(self.folder)
        return _watches.count(self)

    def close(self) -> None:
        _watches.drop(self)


class _Watches:
    """One descriptor for the process: the kernel gives a user but 128."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._descriptor: int | None = None
        self._of: dict[int, list[Replaced]] = {}

    def add(self, one: Replaced) -> None:
        with self._lock:
            try:
                if self._descriptor is None:
                    self._descriptor = inotify.opened()
                self._take(self._descriptor)  # what is told of from now on happens from now on
                # both halves of a rename: two equal events in a row would be told once
                number = inotify.watch(self._descriptor, one.folder, inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO)
            except OSError as error:
                log.warning("%s is not watched, what is lost of its log is not told: %s", one.folder, error)
                return
            self._of.setdefault(number, []).append(one)

    def count(self, one: Replaced) -> int:
        with self._lock:
            if self._descriptor is not None:
                self._take(self._descriptor)
            return one.times

    def drop(self, one: Replaced) -> None:
        with self._lock:
            for number, readers in [*self._of.items()]:
                if one in readers:
                    readers.remove(one)
                    if not readers and self._descriptor is not None:
                        del self._of[number]
                        with contextlib.suppress(OSError):  # the folder is gone, and its watch with it
                            inotify.unwatch(self._descriptor, number)

    def _take(self, descriptor: int) -> None:
        for happened in inotify.happened(descriptor):
            if happened.mask & inotify.IN_Q_OVERFLOW:
                for readers in self._of.values():
                    for one in readers:
                        one.times += 1
            elif happened.mask & inotify.IN_IGNORED:
                self._of.pop(happened.watch, None)
            elif happened.mask & inotify.IN_MOVED_TO:
                for one in self._of.get(happened.watch, ()):
                    one.times += one.name == happened.name


_watches = _Watches()
