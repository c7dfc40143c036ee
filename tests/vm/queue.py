"""The tests that the virtual machines share: each asks for its next one when it has room for it."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path


class Queue:
    """Of each run (``runc``, ``crun``) its tests, in order.  A line that names the run is answered with the next; an empty one: no more."""

    def __init__(self, runs: Mapping[str, Sequence[str]]) -> None:
        self._left = {name: deque(tests) for name, tests in runs.items()}
        self._lock = threading.Lock()

    def next(self, run: str) -> str:
        """Of a run that is not known there is nothing: what should have been given out then counts as not begun."""
        with self._lock:
            left = self._left.get(run)
            return left.popleft() if left else ""

    def close(self) -> int:
        """Nothing is given out any more.  How many tests nobody had asked for."""
        with self._lock:
            count = sum(map(len, self._left.values()))
            for left in self._left.values():
                left.clear()
            return count

    def serve(self, path: Path) -> socket.socket:
        """Answers the one machine whose serial line is connected to this socket.  To be closed by the caller when the machine has ended."""
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen(1)
        threading.Thread(target=self._answer, args=(server,), daemon=True).start()
        return server

    def _answer(self, server: socket.socket) -> None:
        line, _ = server.accept()
        with line, line.makefile("rwb", buffering=0) as stream:
            for asked in stream:
                stream.write(f"{self.next(asked.decode().strip())}\n".encode())
