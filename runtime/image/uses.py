"""When each image was last used: the time of an empty file by its id."""

from __future__ import annotations

import os
import time
from collections.abc import Container

from runtime.home import Home


class Uses:
    def __init__(self, home: Home) -> None:
        self._folder = home.images / "used"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def note(self, id: str) -> None:
        """It was got, made, or a container was made of it."""
        file = self._folder / id.partition(":")[2]
        file.touch(mode=0o600)
        os.utime(file)

    def last(self, id: str) -> float:
        """Seconds since the epoch; of one that is from before this was noted, 0."""
        try:
            return (self._folder / id.partition(":")[2]).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def ids(self) -> frozenset[str]:
        return frozenset(f"sha256:{file.name}" for file in self._folder.iterdir())

    def since(self, id: str) -> float:
        """Seconds; a clock that was set back makes nothing young for ever."""
        past = time.time() - self.last(id)
        return past if past >= 0 else float("inf")

    def keep(self, ids: Container[str]) -> None:
        """Forget all others."""
        for id in self.ids():
            if id not in ids:
                (self._folder / id.partition(":")[2]).unlink(missing_ok=True)
