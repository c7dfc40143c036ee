"""Is there somebody at a port?  Asked from within a container's network namespace, by sockets made there."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from runtime.api import Outcome
from runtime.kernel.namespaces import inside_network
from runtime.kernel.ready import readable, writable

LOOPBACK = "127.0.0.1"
UNDER_WAY = {0, errno.EINPROGRESS}
"""What connect(2) answers without a wait; anything else is final, and in no SO_ERROR."""
LOOK_S = 0.25
LONGEST_HEAD = 4096
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?")


class Patience:
    """How long an answer may take: until a moment, or until nobody wants it any more."""

    def __init__(self, seconds: float, given_up: Callable[[], bool]) -> None:
        self._until = time.monotonic() + seconds
        self._given_up = given_up

    def step(self) -> float:
        """Seconds to wait at once; 0 when it is over."""
        return 0.0 if self._given_up() else max(0.0, min(LOOK_S, self._until - time.monotonic()))


def tcp(netns: Path, address: str | None, port: int, patience: Patience) -> Outcome:
    connection, why = _connect(netns, address, port, patience)
    if connection is None:
        return Outcome(False, why)
    connection.close()
    return Outcome(True, "connected")


def http(netns: Path, address: str | None, port: int, path: str, patience: Patience) -> Outcome:
    """Only the first line of the answer is read, and no redirect is followed."""
    connection, why = _connect(netns, address, port, patience)
    if connection is None:
        return Outcome(False, why)
    with connection:
        request = (
            f"GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\nUser-Agent: slipway-health\r\nConnection: close\r\n\r\n"
        )
        try:
            connection.sendall(request.encode())
            head = _head(connection, patience)
        except OSError as error:
            return Outcome(False, error.strerror or "the connection broke")
    found = STATUS_LINE.match(head or b"")
    if found is None:
        return Outcome(False, "no answer in time" if head is None else "the answer is not HTTP")
    words = " ".join(part.decode(errors="replace") for part in found.groups() if part)
    return Outcome(200 <= int(found[1]) < 400, f"HTTP {words}")


def _connect(netns: Path, address: str | None, port: int, patience: Patience) -> tuple[socket.socket | None, str]:
    """To the loopback, where most programs listen as well, then to the container's address."""
    why = "no answer in time"
    for target in filter(None, (LOOPBACK, address)):
        with inside_network(netns):
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        refused = connection.connect_ex((target, port))
        while (step := patience.step()) and not writable(connection, step):
            pass
        if not step:
            connection.close()
            return None, "no answer in time"
        failure = refused if refused not in UNDER_WAY else connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not failure:
            return connection, ""
        why = os.strerror(failure)
        connection.close()
    return None, why


def _head(connection: socket.socket, patience: Patience) -> bytes | None:
    """Up to the end of the first line, of the answer, or of what is looked at; None when the time is over."""
    head = b""
    while b"\n" not in head and len(head) < LONGEST_HEAD:
        step = patience.step()
        if not step:
            return None
        if readable([connection], step):
            content = connection.recv(LONGEST_HEAD)
            if not content:
                break
            head += content
    return head
