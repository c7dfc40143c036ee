"""Pulling: resolve, download what is missing with up to three connections, verify, unpack each layer while others still come.

What a failed pull has downloaded stays in ``ingest/`` under its digest, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.api import Credentials, Image, Progress, Step
from runtime.errors import ImageCorrupt, ImageUnavailable, ImageUnsuitable
from runtime.image.blobs import digest_mismatch, parse_json
from runtime.image.reference import Reference
from runtime.image.registry import RegistryClient
from runtime.image.room import disk_full, out_of_space
from runtime.image.store import ImageStore, architecture

PARALLEL = 3
TELL_EVERY_S = 0.1
FRUITLESS = 3
"""Tries in a row that brought no byte before a blob is given up."""
PAUSE_S = 0.5


@dataclass
class _Meter:
    """Bytes of each blob that are here, told at most ten times a second and never fewer than before."""

    progress: Progress
    total: int
    here: dict[str, int] = field(default_factory=dict)
    told: int = -1
    told_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def at(self, digest: str, size: int) -> None:
        """Raises CancelledError once the pull has failed elsewhere."""
        if self.stopped.is_set():
            raise CancelledError
        with self.lock:
            self.here[digest] = size
            done = min(sum(self.here.values()), self.total)
            now = time.monotonic()
            if done > self.told and (now - self.told_at >= TELL_EVERY_S or done == self.total):
                self.told, self.told_at = done, now
                self.progress(Step("download", done, self.total, digest[7:19]))


def pull(
    store: ImageStore, reference: Reference, *, credentials: Credentials | None, insecure: bool, progress: Progress
) -> Image:
    """See :meth:`runtime.api.Engine.pull`."""
    progress(Step("resolve", detail=str(reference)))
    with store.adding(), RegistryClient(reference, credentials, insecure=insecure) as client:
        manifest = _platform_manifest(client, reference)
        parsed = parse_json(manifest)
        config, layers = _shape(parsed)
        sizes = {str(row["digest"]): int(row["size"]) for row in (config, *layers)}
        meter = _Meter(progress, sum(sizes.values()))
        _fetch(store, client, config, meter)
        diff_ids = store.check_config(store.blobs.json(config["digest"]), len(layers))
        _fetch_layers(store, client, layers, diff_ids, meter)
        return store.adopt(manifest, reference, progress)


def _platform_manifest(client: RegistryClient, reference: Reference) -> bytes:
    """The manifest for this node, through an index if there is one.  Raises ImageUnsuitable that says which platforms there are."""
    content = _verified(client.manifest(reference.selector), reference.digest)
    parsed = parse_json(content)
    if "manifests" not in parsed:
        return content
    rows = [row for row in parsed["manifests"] if isinstance(row, dict) and isinstance(row.get("platform"), dict)]
    wanted = architecture()
    for row in rows:
        if row["platform"].get("architecture") == wanted and row["platform"].get("os") == "linux":
            return _verified(client.manifest(str(row["digest"])), str(row["digest"]))
    have = ", ".join(sorted({f"{row['platform'].get('os')}/{row['platform'].get('architecture')}" for row in rows}))
    raise ImageUnsuitable(
        f"The image is not made for linux/{wanted}; it is there for {have or 'no platform'}.",
        hint="Use an image for this architecture.",
        field="image",
    )


def _verified(content: bytes, digest: str) -> bytes:
    if digest and digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
        raise digest_mismatch()
    return content


def _shape(manifest: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Config and layers.  Raises ImageUnsuitable for old schemas, ImageCorrupt for what is no manifest."""
    if manifest.get("schemaVersion") == 1:
        raise ImageUnsuitable(
            "The image has a manifest of schema 1, long out of use.", hint="Push it anew.", field="image"
        )
    config, layers = manifest.get("config"), manifest.get("layers")
    rows = [config, *layers] if isinstance(layers, list) else []
    if not rows or not all(
        isinstance(row, dict) and isinstance(row.get("digest"), str) and isinstance(row.get("size"), int)
        for row in rows
    ):
        raise ImageCorrupt("The image's manifest is not one.", hint="The image must be pushed anew.")
    return rows[0], rows[1:]


def _fetch_layers(
    store: ImageStore,
    client: RegistryClient,
    layers: list[Mapping[str, Any]],
    diff_ids: list[str],
    meter: _Meter,
) -> None:
    def one(layer: Mapping[str, Any], diff_id: str) -> None:
        _fetch(store, client, layer, meter)
        store.ensure_layer(str(layer["digest"]), diff_id)

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="pull") as pool:
        futures = [pool.submit(one, layer, diff_id) for layer, diff_id in zip(layers, diff_ids, strict=True)]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            meter.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(store: ImageStore, client: RegistryClient, row: Mapping[str, Any], meter: _Meter) -> None:
    """One blob, verified.  Raises ImageCorrupt, OutOfSpace, and what the client raises."""
    digest, size = str(row["digest"]), int(row["size"])
    target = store.blobs.path(digest)
    part = store.blobs.ingest / f"{target.name}.part"
    with store.blob_lock(digest):
        if target.exists():
            meter.at(digest, size)
            return
        try:
            _persist(client, digest, size, part, meter)
            with part.open("rb") as content:
                actual = hashlib.file_digest(content, "sha256").hexdigest()
                os.fsync(content.fileno())
            if actual != target.name:
                part.unlink()
                raise digest_mismatch()
            os.replace(part, target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise (out_of_space() if disk_full(error) else error) from None


def _persist(client: RegistryClient, digest: str, size: int, part: Path, meter: _Meter) -> None:
    """Go on from where a broken connection left the part, for as long as each try brings something."""
    fruitless = 0
    while (have := _size(part)) < size or not part.exists():
        try:
            _download(client, digest, size, part, meter)
        except ImageUnavailable:
            fruitless = 0 if _size(part) > have else fruitless + 1
            if fruitless == FRUITLESS or meter.stopped.wait(PAUSE_S * fruitless):
                raise
    meter.at(digest, size)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _download(client: RegistryClient, digest: str, size: int, part: Path, meter: _Meter) -> None:
    with (
        client.blob(digest, _size(part)) as (begins, chunks),
        part.open("r+b" if part.exists() else "wb") as file,
    ):
        file.seek(begins)
        file.truncate()
        got = begins
        for chunk in chunks:
            got += len(chunk)
            if got > size:
                raise digest_mismatch()
            file.write(chunk)
            meter.at(digest, got)
    if got < size:
        raise ImageUnavailable("The registry ended the download too early.", hint="Try again.")
