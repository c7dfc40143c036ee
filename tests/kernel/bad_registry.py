"""A registry on loopback that serves what a test puts into it, honest or not (OCI distribution spec, pull only)."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import platform
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.serving import QuietHandler, serving

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar; a name goes in as it is given, ``../`` and all."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return held.getvalue()


def busybox() -> bytes:
    program = Path("/bin/busybox").read_bytes()
    return layer(
        {"bin/busybox": program, "bin/sh": program, "bin/sleep": program, "etc/passwd": b"root:x:0:0::/:/bin/sh\n"}
    )


SLOW_PIECE = 16 << 10


@dataclass(slots=True)
class Registry:
    """``address`` is host:port, to be used with ``insecure=True``."""

    address: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    slow: bool = False
    """What is larger than ``SLOW_PIECE`` comes piece by piece, at 160 KiB a second."""
    served: list[str] = field(default_factory=list)
    """Paths that were asked for."""

    def put(
        self,
        name: str,
        tar: bytes,
        *,
        architecture: str = ARCHITECTURE,
        labels: Mapping[str, str] | None = None,
        blob: bytes | None = None,
        damage: bool = False,
    ) -> str:
        """Tag ``name:latest``; ``blob`` replaces the compressed layer; ``damage`` serves other bytes than the digest says."""
        compressed = gzip.compress(tar, mtime=0) if blob is None else blob
        config = json.dumps({
            "architecture": architecture, "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000"], "Labels": dict(labels or {})},
            "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
        }).encode()  # fmt: skip
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
            "layers": [{"mediaType": LAYER, "digest": digest(compressed), "size": len(compressed)}],
        }).encode()  # fmt: skip
        self.blobs[digest(config)] = config
        served = compressed[:-1] + bytes([compressed[-1] ^ 0xFF]) if damage else compressed
        self.blobs[digest(compressed)] = served
        self.manifests[name, "latest"] = self.manifests[name, digest(manifest)] = manifest
        return f"{self.address}/{name}:latest"

    def answer(self, path: str, authorization: str) -> tuple[int, Mapping[str, str], bytes]:
        self.served.append(path)
        if self.login:
            wanted = base64.b64encode(":".join(self.login).encode()).decode()
            if authorization != f"Basic {wanted}":
                return 401, {"WWW-Authenticate": 'Basic realm="test"'}, b'{"errors":[{"code":"UNAUTHORIZED"}]}'
        if path.rstrip("/") == "/v2":
            return 200, {}, b"{}"
        for kind, type_ in (("manifests", MANIFEST), ("blobs", "application/octet-stream")):
            name, found, reference = path.removeprefix("/v2/").partition(f"/{kind}/")
            if found:
                known = self.manifests.get((name, reference)) if kind == "manifests" else self.blobs.get(reference)
                if known is not None:
                    return 200, {"Content-Type": type_, "Docker-Content-Digest": digest(known)}, known
        return 404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'


@contextmanager
def registry() -> Iterator[Registry]:
    state = Registry()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 -- the name that http.server calls
            code, headers, body = state.answer(self.path.partition("?")[0], self.headers.get("Authorization", ""))
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self._send(body)

        def _send(self, body: bytes) -> None:
            if not state.slow:
                self.wfile.write(body)
                return
            for begin in range(0, len(body), SLOW_PIECE):
                if begin:
                    time.sleep(0.1)
                self.wfile.write(body[begin : begin + SLOW_PIECE])

        do_HEAD = do_GET  # noqa: N815 -- the name that http.server calls

    with serving(Handler) as state.address:
        yield state
