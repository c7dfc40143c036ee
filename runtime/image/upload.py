"""One blob to a registry (distribution-spec 1.1, "Pushing blobs"): asked for first, mounted where that can be, else sent piece by piece."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from runtime.errors import ImageDenied, ImageFault, ImageUnavailable, ImageUnsuitable
from runtime.failpoint import failpoint
from runtime.image.blobs import CHUNK
from runtime.image.meter import Meter
from runtime.image.reference import Reference
from runtime.image.registry import SLOW_FOR_S, SLOWEST, RegistryClient
from runtime.image.transport import unavailable

PIECE = 16 << 20
"""Sent in one request; a blob that is no larger is sent whole."""
MOST_PIECE = 1 << 30
"""A registry may ask for larger ones, up to this."""
FRUITLESS = 3
"""Tries in a row that brought nothing over before an upload is given up."""
MOST_BEGINNINGS = 8
"""Registries that cannot tell how much of a broken upload they have make it begin anew; this often."""
PAUSE_S = 0.5
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,15})")
_CODE = re.compile(rb'"code"\s*:\s*"([A-Z_]{1,40})"')
GONE = {httpx.codes.NOT_FOUND, httpx.codes.GONE}


@dataclass(slots=True)
class _Going:
    """An upload as it goes: where to, how much is over."""

    digest: str
    size: int
    file: Path
    location: str = ""
    over: int = 0
    found: int = 0
    """How much was over after the last failure."""
    beginnings: int = 0
    piece: int = 0


class Uploader:
    """For one repository; threads may share it."""

    def __init__(self, client: RegistryClient, reference: Reference, meter: Meter) -> None:
        self._client = client
        self._reference = reference
        self._registry = reference.registry
        self._path = f"/v2/{reference.repository}"
        self._meter = meter

    def has(self, digest: str) -> bool:
        with self._client.asking("HEAD", f"{self._path}/blobs/{digest}", {}) as response:
            if response.status_code in GONE:
                return False
            self._client.check(response)
            return True

    def blob(self, digest: str, size: int, file: Path, mount_from: str = "") -> None:
        """See :meth:`runtime.api.ImageService.push` for what is raised.  A broken upload goes on where the registry says that it was."""
        going, fruitless = _Going(digest, size, file), 0
        while True:
            try:
                if not going.location and (self.has(digest) or not self._begin(going, mount_from)):
                    break
                failpoint("push.begun")
                if self._send(going):
                    break
            except ImageUnavailable:
                if self._meter.stopped.is_set():
                    raise
                before, reached = going.found, going.over
                self._find_out(going)
                fruitless = 0 if max(reached, going.over) > before else fruitless + 1
                if (
                    going.beginnings == MOST_BEGINNINGS
                    or fruitless == FRUITLESS
                    or self._meter.stopped.wait(PAUSE_S * fruitless)
                ):
                    raise
        self._meter.at(digest, size)

    def _begin(self, going: _Going, mount_from: str) -> bool:
        """False when the registry has mounted it, so that nothing need be sent."""
        query = f"?{httpx.QueryParams({'mount': going.digest, 'from': mount_from})}" if mount_from else ""
        with self._client.asking("POST", f"{self._path}/blobs/uploads/{query}", {"Content-Length": "0"}) as response:
            if mount_from and response.status_code == httpx.codes.CREATED:
                return False
            if not mount_from or response.status_code == httpx.codes.ACCEPTED:
                self._accepted(response, httpx.codes.ACCEPTED)
                least = response.headers.get("OCI-Chunk-Min-Length", "")
                going.piece = max(PIECE, min(int(least), MOST_PIECE) if least.isdecimal() else 0)
                going.location = self._location(response)
                going.beginnings += 1
                return True
        return self._begin(going, "")  # it knows no such repository, or not for us

    def _location(self, response: httpx.Response) -> str:
        said = response.headers.get("Location", "")
        try:
            return str(response.url.join(said)) if said else self._nonsense()
        except httpx.InvalidURL:
            return self._nonsense()

    def _nonsense(self) -> str:
        raise unavailable(self._registry, "does not say where an upload goes")

    def _send(self, going: _Going) -> bool:
        """One request; whether the blob is there then."""
        piece = min(going.size - going.over, going.piece)
        if piece == going.size or not piece:
            self._put(going, piece)
            return True
        self._patch(going, piece)
        return False

    def _patch(self, going: _Going, piece: int) -> None:
        headers = {"Content-Range": f"{going.over}-{going.over + piece - 1}", **_length(piece)}
        with self._client.asking("PATCH", going.location, headers, lambda: self._bytes(going, piece)) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise unavailable(self._registry, "has lost its place in an upload")
            self._accepted(response, httpx.codes.ACCEPTED, httpx.codes.NO_CONTENT)
            before, going.location = going.over, self._location(response)
            going.over = _over(response, before + piece)
        if going.over <= before:
            raise unavailable(self._registry, "takes nothing of an upload")
        if going.over > going.size:
            raise ImageUnsuitable(
                f"The registry {self._registry} does not take the image: it counts more than was sent.",
                hint="Ask who runs the registry.",
                registry=self._registry,
            )

    def _put(self, going: _Going, piece: int) -> None:
        """What is left of it, which closes the upload."""
        target = str(httpx.URL(going.location).copy_merge_params({"digest": going.digest}))
        with self._client.asking("PUT", target, _length(piece), lambda: self._bytes(going, piece)) as response:
            self._accepted(response, httpx.codes.CREATED)

    def _find_out(self, going: _Going) -> None:
        """How much of a broken upload the registry has; nothing, and no address, when it no longer knows it."""
        location, going.location, going.over, going.found = going.location, "", 0, 0
        if not location:
            return
        with (
            contextlib.suppress(ImageFault),
            self._client.asking("GET", location, {}) as response,
        ):
            if response.status_code == httpx.codes.NO_CONTENT:
                going.location = self._location(response)
                going.over = going.found = min(_over(response, 0), going.size)

    def _bytes(self, going: _Going, size: int) -> Iterator[bytes]:
        """The next part of the file, told as it goes.  A registry that takes less than :data:`SLOWEST` is given up."""
        since, sent, left = time.monotonic(), 0, size
        with going.file.open("rb") as source:
            source.seek(going.over)
            while left:
                chunk = source.read(min(CHUNK, left))
                if not chunk:
                    raise ImageUnsuitable("A part of the image is missing.", hint="Pull it again.")
                yield chunk
                left -= len(chunk)
                sent += len(chunk)
                self._meter.at(going.digest, going.over + size - left)
                if (now := time.monotonic()) - since >= SLOW_FOR_S:
                    if sent < SLOWEST * SLOW_FOR_S:
                        raise unavailable(self._registry, "takes an upload too slowly")
                    since, sent = now, 0

    def manifest(self, selector: str, content: bytes, media_type: str) -> None:
        headers = {"Content-Type": media_type}
        with self._client.asking("PUT", f"{self._path}/manifests/{selector}", headers, lambda: content) as response:
            self._accepted(response, httpx.codes.CREATED)

    def _accepted(self, response: httpx.Response, *wanted: int) -> None:
        status = response.status_code
        if status in wanted:
            return
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise ImageDenied(
                f"The registry {self._registry} does not let this user push to {self._reference.repository}.",
                hint="Push to a name that the user may write, or correct the registry's credentials.",
                registry=self._registry,
            )
        if status in {*GONE, httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS}:
            raise unavailable(self._registry, "broke off the upload")
        if httpx.codes.BAD_REQUEST <= status < httpx.codes.INTERNAL_SERVER_ERROR:
            raise ImageUnsuitable(
                f"The registry {self._registry} does not take the image: {_reason(response)}.",
                hint="Ask who runs the registry.",
                registry=self._registry,
            )
        raise unavailable(self._registry, f"answered with an error (HTTP {status})")


def _length(size: int) -> dict[str, str]:
    return {"Content-Length": str(size), "Content-Type": "application/octet-stream"}


def _over(response: httpx.Response, otherwise: int) -> int:
    """Bytes that the registry has by its own word; ``0-0`` is both one byte and none, and is taken for none."""
    found = _RANGE.fullmatch(response.headers.get("Range", "").strip())
    last = int(found[1]) if found else None
    return otherwise if last is None else last + 1 if last else 0


def _reason(response: httpx.Response) -> str:
    """The registry's own code for it (distribution-spec, "Error codes"), else the status."""
    try:
        found = _CODE.search(next(response.iter_bytes(1 << 14), b""))
    except httpx.HTTPError:
        found = None
    return found[1].decode() if found else f"HTTP {response.status_code}"
