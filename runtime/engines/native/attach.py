"""Attaching through conmon's socket: packets of a stream's number and its bytes out, bytes in, and a fifo for the terminal's size.

conmon writes to an attached client before it goes on, so each session reads all the time, in a thread, into a bounded buffer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import termios
import threading
import time
from collections import deque
from pathlib import Path

from runtime.api import Attachments, AttachSession, Chunk, State
from runtime.api.attach import INPUT_DEADLINE_S
from runtime.engines.native.lifecycle import Lifecycle
from runtime.errors import Conflict, DeadlineExceeded
from runtime.home import Home

BUFFER_BYTES = 1 << 20
PACKET = 1 << 16
INPUT_PACKET = 8192
STDERR = 3
RESIZE = 1
CONNECT_S = 5.0
HEARD_S, HEARD_EVERY_S = 1.0, 0.002


class NativeAttachments(Attachments):
    def __init__(self, home: Home, lifecycle: Lifecycle) -> None:
        self._home = home
        self._lifecycle = lifecycle

    def open(self, id: str) -> AttachSession:
        records = self._lifecycle.records
        spec = records.spec(id)
        self._refuse_ended(id)
        folder = self._home.bundle(id)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(CONNECT_S)
        try:
            connection.connect(str(folder / "attach"))
        except OSError:
            connection.close()
            self._refuse_ended(id, starts=False)  # it goes with its container
            raise Conflict("The container's supervisor is gone.", hint="Restart the container.") from None
        connection.settimeout(None)
        return NativeAttach(connection, folder / "ctl" if spec.terminal else None, spec.stdin or spec.terminal)

    def _refuse_ended(self, id: str, *, starts: bool = True) -> None:
        """Raises NotFound, Conflict; ``starts``: not for one that is about to run."""
        record = self._lifecycle.records.record(id)
        if record.starting and starts:
            return
        if record.state is not State.RUNNING or self._lifecycle.ended(record):
            raise Conflict("The container is not running.", hint="Start it first.")


class NativeAttach:
    """See :class:`runtime.api.AttachSession`."""

    def __init__(self, connection: socket.socket, control: Path | None, takes_input: bool) -> None:
        self.dropped = 0
        self._connection = connection
        self._control = control
        self._takes_input = takes_input
        self._came = threading.Condition()
        self._chunks: deque[Chunk] = deque()
        self._held = 0
        self._over = False
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        while True:
            try:
                packet = self._connection.recv(PACKET)
            except OSError:
                packet = b""
            with self._came:
                if packet:
                    self._take(Chunk("stderr" if packet[0] == STDERR else "stdout", packet[1:]))
                else:
                    self._over = True
                self._came.notify_all()
                if self._over:
                    return

    def _take(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._held += len(chunk.content)
        while self._held > BUFFER_BYTES:
            lost = len(self._chunks.popleft().content)
            self._held -= lost
            self.dropped += lost

    def read(self, timeout_s: float) -> Chunk | None:
        with self._came:
            self._came.wait_for(lambda: self._chunks or self._over, timeout_s)
            if self._chunks:
                chunk = self._chunks.popleft()
                self._held -= len(chunk.content)
                return chunk
            if self._over:
                raise EOFError
            return None

    def write(self, content: bytes) -> None:
        if not self._takes_input:
            raise Conflict(
                "The container was created without an input.", hint="Create one with an input or a terminal."
            )
        for start in range(0, len(content), INPUT_PACKET):
            self._send(content[start : start + INPUT_PACKET])

    def _send(self, packet: bytes) -> None:
        """conmon takes the next packet once the container has taken the one before."""
        seconds = int(INPUT_DEADLINE_S)
        limit = seconds.to_bytes(8, "little") + (0).to_bytes(8, "little")  # a struct timeval; for sending alone
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            self._connection.send(packet)
        except BlockingIOError:
            raise DeadlineExceeded("The container does not read its input.") from None
        except OSError:
            raise Conflict("The container is not running.", hint="Start it first.") from None

    def close_input(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def resize(self, columns: int, rows: int) -> None:
        """Returns once the supervisor has read it, within :data:`HEARD_S`: who resizes before the program begins has it begin with that size."""
        if self._control is None:
            return
        with contextlib.suppress(OSError):  # nobody reads it any more
            descriptor = os.open(self._control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(descriptor, f"{RESIZE} {max(1, rows)} {max(1, columns)}\n".encode())
                deadline = time.monotonic() + HEARD_S
                while _unread(descriptor) and time.monotonic() < deadline:
                    time.sleep(HEARD_EVERY_S)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()


def _unread(fifo: int) -> int:
    """Bytes."""
    return int(struct.unpack("i", fcntl.ioctl(fifo, termios.FIONREAD, bytes(4)))[0])
