"""Docker's HTTP API on a unix socket, which dockerd and ``podman system service`` both speak (API v1.41).

One kept connection for each thread, as a program that launches many has them; no client process is started.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

DEADLINE_S = 120.0
VERSION = "v1.41"


class ApiFault(RuntimeError):
    """What the daemon answered instead."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(self._path)


class Api:
    """``path``: of the socket.  Raises ApiFault, OSError."""

    def __init__(self, path: str, *, parent: str) -> None:
        self.path = path
        self.parent = parent
        """The cgroup that its containers go into."""
        self._kept = threading.local()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, versioned: bool = True) -> bytes:
        """The answer's body; for a stream, all of it until its end.  ``versioned``: docker's API, else a path from the root."""
        kept: _Connection | None = getattr(self._kept, "connection", None)
        if kept is None:
            kept = self._kept.connection = _Connection(self.path)
        text = None if body is None else json.dumps(body).encode()
        try:
            kept.request(method, f"/{VERSION}{path}" if versioned else path, text, {"Content-Type": "application/json"})
            answer = kept.getresponse()
            content = answer.read()
        except BaseException:
            self.hang_up()
            raise
        if answer.will_close:
            self.hang_up()
        if answer.status >= 400:
            raise ApiFault(f"{method} {path}: {answer.status} {content.decode(errors='replace').strip()}")
        return content

    def hang_up(self) -> None:
        """This thread's connection."""
        kept = getattr(self._kept, "connection", None)
        if kept is not None:
            kept.close()
            self._kept.connection = None

    def launch(self, name: str, image: str, command: Sequence[str], limits: Mapping[str, int]) -> None:
        """Create and start; it runs when this returns."""
        wanted = {"Image": image, "Cmd": list(command), "HostConfig": {"CgroupParent": self.parent, **limits}}
        self.call("POST", f"/containers/create?name={name}", wanted)
        self.call("POST", f"/containers/{name}/start")

    def remove(self, name: str) -> None:
        self.call("DELETE", f"/containers/{name}?force=1")

    def exec(self, name: str, command: Sequence[str]) -> int:
        """The exit code, after all of the output was read."""
        wanted = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
        id = json.loads(self.call("POST", f"/containers/{name}/exec", wanted))["Id"]
        self.call("POST", f"/exec/{id}/start", {"Detach": False, "Tty": False})
        return int(json.loads(self.call("GET", f"/exec/{id}/json"))["ExitCode"])

    def stats(self, name: str) -> Mapping[str, Any]:
        """One look, without the second that a rate of CPU needs."""
        return dict(json.loads(self.call("GET", f"/containers/{name}/stats?stream=false&one-shot=true")))

    def wait(self, name: str) -> int:
        return int(json.loads(self.call("POST", f"/containers/{name}/wait"))["StatusCode"])
