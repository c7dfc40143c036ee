"""The terminal of an exec, as crun hands it over by a unix socket (``--console-socket``), so that nothing passes through crun itself.

What crun 1.8 relays lacks the words of a command that ends at once.  runc takes the socket only where it does not wait for the command.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from runtime.errors import EngineFault
from runtime.kernel.ready import Stream, readable

WORDS = 4096
"""Bytes that come with the descriptor; nobody reads them."""


def listening(path: Path) -> socket.socket:
    """For one who connects to ``path``, which is made."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        made.listen(1)
    except BaseException:
        made.close()
        raise
    return made


def taken(listener: socket.socket, runtime: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """Our end of the terminal.  None: the runtime ended without handing one over.

    Raises TimeoutError; EngineFault: the terminal was lost on the way, as in a process that has as many files open as it may.
    """
    deadline = time.monotonic() + timeout_s
    ended = os.pidfd_open(runtime.pid)
    try:
        if not _offered(listener, ended, deadline):
            return None
        connection, _ = listener.accept()
        with connection:
            if not _offered(connection, ended, deadline):
                return None
            words, descriptors, _, _ = socket.recv_fds(connection, WORDS, 1, socket.MSG_CMSG_CLOEXEC)
        if descriptors:
            return descriptors[0]
        if words:
            raise EngineFault("The command's terminal was lost on its way.", hint="Try again.")
        _await((ended,), deadline)
    finally:
        os.close(ended)
    return None


def _offered(stream: socket.socket, ended: int, deadline: float) -> bool:
    """Whether something has come; False: the runtime has ended, and nothing had."""
    return stream.fileno() in _await((stream, ended), deadline) or bool(readable((stream,), 0))


def _await(streams: tuple[int | Stream, ...], deadline: float) -> list[int]:
    ready = readable(streams, max(0.0, deadline - time.monotonic()))
    if not ready:
        raise TimeoutError
    return ready
