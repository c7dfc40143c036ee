"""A home of a test that has what lies in /run beside the rest, so that all of it is the test's."""

from __future__ import annotations

from pathlib import Path

from runtime.home import Home


class OwnRun(Home):
    __slots__ = ()

    @property
    def run(self) -> Path:
        return self.root / "run"
