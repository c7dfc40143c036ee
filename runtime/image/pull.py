"""Pulling: resolve, download what is missing with up to three connections, verify, unpack each layer while others still come.

What a failed pull has downloaded stays in ``ingest/`` under its digest, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.api import Credentials, Image, Progress, Step
from runtime.errors import ImageCorrupt, ImageUnavailable, ImageUnsuitable
from runtime.image.blobs import digest_mismatch, disk_full, out_of_space, parse_json
from runtime.image.reference import Reference
from runtime.image.registry import RegistryClient
from runtime.image.store import ImageStore, architecture

PARALLEL = 3
TELL_EVERY_S = 0.1
RESUMES = 3


@dataclass
class _Counter:
    """Bytes of all layers so far, told at most ten times a second."""

    progress: Progress
    total: int
    done: int = 0
    told: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int, detail: str) -> None:
        with self.lock:
            self.done += count
            now = time.monotonic()
            if now - self.told >= TELL_EVERY_S or self.done >= self.total:
                self.told = now
                self.progress(Step("download", min(self.done, self.total), self.total, detail))


def pull(
    store: ImageStore, reference: Reference, *, credentials: Credentials | None, insecure: bool, progress: Progress
) -> Image:
    """See :meth:`runtime.api.Engine.pull`."""
    progress(Step("resolve", detail=str(reference)))
    with store.adding(), RegistryClient(reference, credentials, insecure=insecure) as client:
        manifest = _platform_manifest(client, reference)
        parsed = parse_json(manifest)
        config, layers = _shape(parsed)
        counter = _Counter(progress, sum(int(row["size"]) for row in (config, *layers)))
        _fetch(store, client, config, counter)
        diff_ids = store.check_config(store.blobs.json(config["digest"]), len(layers))
        _fetch_layers(store, client, layers, diff_ids, counter)
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
    counter: _Counter,
) -> None:
    def one(layer: Mapping[str, Any], diff_id: str) -> None:
        _fetch(store, client, layer, counter)
        store.ensure_layer(str(layer["digest"]), diff_id)

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="pull") as pool:
        futures = [pool.submit(one, layer, diff_id) for layer, diff_id in zip(layers, diff_ids, strict=True)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(store: ImageStore, client: RegistryClient, row: Mapping[str, Any], counter: _Counter) -> None:
    """One blob, verified.  Raises ImageCorrupt, OutOfSpace, and what the client raises."""
    digest, size = str(row["digest"]), int(row["size"])
    target = store.blobs.path(digest)
    part = store.blobs.ingest / f"{target.name}.part"
    with store.blob_lock(digest):
        if target.exists():
            counter.add(size, digest[7:19])
            return
        try:
            for attempt in range(RESUMES):
                try:
                    _download(client, digest, size, part, counter)
                    break
                except ImageUnavailable:
                    if attempt + 1 == RESUMES or not part.exists():
                        raise
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


def _download(client: RegistryClient, digest: str, size: int, part: Path, counter: _Counter) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have == size:
        counter.add(size, digest[7:19])
        return
    with (
        client.blob(digest, have if have < size else 0) as (begins, chunks),
        part.open("r+b" if part.exists() else "wb") as file,
    ):
        file.seek(begins)
        file.truncate()
        counter.add(begins, digest[7:19])
        got = begins
        for chunk in chunks:
            got += len(chunk)
            if got > size:
                raise digest_mismatch()
            file.write(chunk)
            counter.add(len(chunk), digest[7:19])
    if got < size:
        raise ImageUnavailable("The registry ended the download too early.", hint="Try again.")
