"""A registry on loopback that takes uploads into memory (distribution-spec 1.1, push), and does what a test makes it do instead."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.serving import QuietHandler, serving

Answer = tuple[int, Mapping[str, str], bytes]
Instead = Callable[[str, str, Mapping[str, str]], Answer | None]
"""Method, path with query, headers by lower-case name; None: as an honest one."""


@dataclass(slots=True)
class Shelf:
    """What it holds, and what it was asked: method, path, length of what came with it."""

    address: str = ""
    instead: Instead = lambda _method, _path, _headers: None
    cut_patch_after: list[int] = field(default_factory=list)
    """Of the next PATCHes, each: how many bytes it takes before the connection breaks."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    def paths(self, method: str) -> list[str]:
        return [path for said, path, _ in self.asked if said == method]

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        path = urlsplit(target).path
        name = path.rpartition("/")[2]
        if "/manifests/" in path and method == "PUT":
            self.manifests[name] = body
            return 201, {}, b""
        if method == "HEAD":
            return (200 if name in self.blobs else 404), {"Content-Length": "0"}, b""
        if method == "POST":
            id = f"u{len(self.uploads)}"
            self.uploads[id] = bytearray()
            return 202, {"Location": f"/v2/app/blobs/uploads/{id}", "Range": "0-0"}, b""
        if name not in self.uploads:
            return 404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}'
        return self._going_on(method, target, headers, body)

    def _going_on(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        split = urlsplit(target)
        held = self.uploads[split.path.rpartition("/")[2]]
        if method == "PATCH" and int(headers["content-range"].partition("-")[0]) != len(held):
            return 416, {}, b""
        held += body
        if method in {"GET", "PATCH"}:
            code = 204 if method == "GET" else 202
            return code, {"Location": split.path, "Range": f"0-{max(len(held) - 1, 0)}"}, b""
        wanted = parse_qs(split.query)["digest"][0]
        if f"sha256:{hashlib.sha256(held).hexdigest()}" != wanted:
            return 400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}'
        self.blobs[wanted] = bytes(held)
        return 201, {}, b""


@contextmanager
def shelf() -> Iterator[Shelf]:
    state = Shelf()

    class Handler(QuietHandler):
        def any(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            length = int(headers.get("content-length", "0"))
            if self.command == "PATCH" and state.cut_patch_after:
                took = self.rfile.read(state.cut_patch_after.pop(0))
                state.uploads[urlsplit(self.path).path.rpartition("/")[2]] += took
                state.asked.append((self.command, self.path, len(took)))
                self.connection.close()
                self.close_connection = True
                return
            body = self.rfile.read(length)
            state.asked.append((self.command, self.path, len(body)))
            state.headers.append(headers)
            made = state.instead(self.command, self.path, headers)
            code, sent, content = state.answer(self.command, self.path, headers, body) if made is None else made
            self.send_response(code)
            for name, value in sent.items():
                self.send_header(name, value)
            if "Content-Length" not in sent and code != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = any  # noqa: N815 -- the names that http.server calls

    with serving(Handler) as state.address:
        yield state
