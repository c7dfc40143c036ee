"""Attaching to a container that is a file: what its log gets from now on; each line of input is said back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from runtime.api import Chunk
from runtime.errors import Conflict
from runtime.telemetry.log import Reader, parse

POLL_S = 0.02


class FakeAttach:
    """See :class:`runtime.api.AttachSession`."""

    def __init__(
        self, log: Path, say: Callable[[str], None], ended: Callable[[], bool], *, takes_input: bool, once: bool
    ) -> None:
        self.dropped = 0
        self.size: tuple[int, int] | None = None
        self._reader = Reader(log)
        self._reader.skip_to_end()
        self._reader.fresh()
        self._say = say
        self._ended = ended
        self._takes_input, self._once = takes_input, once
        self._rest, self._input_over = b"", False

    def read(self, timeout_s: float) -> Chunk | None:
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self._ended()
            lines = [line for raw in self._reader.fresh() if (line := parse(raw)) is not None]
            if lines:
                return Chunk("stdout", "".join(f"{line.text}\n" for line in lines).encode())
            if ended:
                raise EOFError
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_S)

    def write(self, content: bytes) -> None:
        if not self._takes_input:
            raise Conflict(
                "The container was created without an input.", hint="Create one with an input or a terminal."
            )
        if self._ended() or self._input_over:
            raise Conflict("The container is not running.", hint="Start it first.")
        *lines, self._rest = (self._rest + content).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._say(line.decode(errors="replace"))

    def close_input(self) -> None:
        self._input_over = self._once

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)

    def close(self) -> None:
        self._reader.close()


class FakeAttachments:
    """See :class:`runtime.api.Attachments`."""

    def __init__(self, opened: Callable[[str], FakeAttach]) -> None:
        self._opened = opened

    def open(self, id: str) -> FakeAttach:
        return self._opened(id)
