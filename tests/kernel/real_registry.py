"""Debian's docker-registry on loopback, and a door in front of it that can be made to slam.  ``insecure`` is not needed: it is loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests import archives
from tests.conftest import patience

LOGIN = ("somebody", "open sesame")
HTPASSWD = "somebody:$2b$04$Q7g8NtkRc/RVRwBEuz421esPZoFoJKxJSfPzZbP3i72iuZPRY6qEq\n"
"""Of :data:`LOGIN`, by bcrypt: the only kind that the registry reads."""


@dataclass(frozen=True, slots=True)
class RealRegistry:
    address: str
    folder: Path
    login: tuple[str, str] | None = None

    def push(self, name: str, *layers: bytes, architecture: str = "", compression: str = "gzip") -> str:
        """Store an image as ``name``; returns ``registry/name@digest``."""
        archive = archives.write(self.folder / "push.tar", layers=layers or None, architecture=architecture)
        said = self.folder / "digest"
        to = ["--dest-creds", ":".join(self.login)] if self.login else []
        command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", *to]
        command += ["--format", "oci", "--dest-compress-format", compression, "--digestfile", str(said)]
        subprocess.run(
            [*command, f"docker-archive:{archive}", f"docker://{self.address}/{name}"],
            check=True, capture_output=True, timeout=patience(60),
        )  # fmt: skip
        return f"{self.address}/{name.partition(':')[0]}@{said.read_text().strip()}"

    def put_manifest(self, name: str, tag: str, content: bytes, media_type: str) -> None:
        url = f"http://{self.address}/v2/{name}/manifests/{tag}"
        httpx.put(url, content=content, headers={"Content-Type": media_type}).raise_for_status()


@contextmanager
def real_registry(folder: Path, *, private: bool = False) -> Iterator[RealRegistry]:
    """Ready when it yields; ended, with what it held, afterwards."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    lines = [
        "version: 0.1",
        "storage:",
        f"  filesystem: {{rootdirectory: {folder / 'data'}}}",
        f"http: {{addr: '{address}'}}",
    ]
    if private:
        (folder / "htpasswd").write_text(HTPASSWD)
        lines.append(f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}")
    (folder / "config.yml").write_text("\n".join(lines) + "\n")
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + patience(20)
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://{address}/v2/").status_code in {200, 401}:
                    break
            assert process.poll() is None, (folder / "registry.log").read_text()
            assert time.monotonic() < deadline, "the registry is not ready within 20 s"
            time.sleep(0.05)
        yield RealRegistry(address, folder, LOGIN if private else None)
    finally:
        process.terminate()
        process.wait(timeout=patience(10))


@dataclass(slots=True)
class Door:
    """Passes bytes on to the registry.  It slams ``cuts`` times: after ``cut_after`` bytes of answers to one connection, or where
    ``cut_sent_after`` is set, after as many bytes of requests."""

    target: tuple[str, int]
    address: str = ""
    cut_after: int = 0
    cuts: int = 0
    passed: int = 0
    """Bytes of answers in all."""
    sent: int = 0
    """Bytes of requests in all."""
    slow_s: float = 0.0
    """A pause after each piece of an answer, and of a request."""
    cut_sent_after: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as registry:
            threading.Thread(target=self._requests, args=(client, registry), daemon=True).start()
            answered = 0
            with contextlib.suppress(OSError):
                while piece := registry.recv(1 << 14):
                    with self.lock:
                        cut = self.cuts > 0 and not self.cut_sent_after and answered + len(piece) > self.cut_after
                        self.cuts -= cut
                        self.passed += len(piece)
                    if cut:
                        client.shutdown(socket.SHUT_RDWR)
                        return
                    client.sendall(piece)
                    answered += len(piece)
                    time.sleep(self.slow_s)

    def _requests(self, client: socket.socket, registry: socket.socket) -> None:
        asked = 0
        with contextlib.suppress(OSError):
            while piece := client.recv(1 << 14):
                asked += len(piece)
                with self.lock:
                    cut = 0 < self.cut_sent_after < asked and self.cuts > 0
                    self.cuts -= cut
                    self.sent += len(piece)
                if cut:
                    client.shutdown(socket.SHUT_RDWR)
                    break
                registry.sendall(piece)
                time.sleep(self.slow_s)
            registry.shutdown(socket.SHUT_WR)


@contextmanager
def door(registry: RealRegistry) -> Iterator[Door]:
    host, _, port = registry.address.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Door((host, int(port)), f"127.0.0.1:{listener.getsockname()[1]}")

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=made.serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=patience(5))
