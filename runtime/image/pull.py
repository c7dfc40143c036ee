"""Pulling: resolve, download what is missing with up to three connections, verify, unpack each layer while others still come.

What a failed pull has downloaded stays in ``ingest/`` under its digest, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from runtime.api import Credentials, Image, Progress, Step
from runtime.errors import DeadlineExceeded, ImageCorrupt, ImageUnavailable, ImageUnsuitable, InvalidSpec
from runtime.failpoint import failpoint
from runtime.image.blobs import MANIFEST_LIMIT, digest_mismatch, is_digest, parse_json
from runtime.image.leases import Lease
from runtime.image.meter import Meter
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.registry import INDEXES, RegistryClient
from runtime.image.room import Room, check_room, disk_full, out_of_space
from runtime.image.store import ImageStore, architecture

FRUITLESS = 3
"""Tries in a row that brought no byte before a blob is given up."""
FRUIT = 64 << 10
"""Bytes that make a try worth another."""
PAUSE_S = 0.5
PULL_WITHIN_S = 3600.0
MOST_NESTED = 4
MOST_LAYERS = 500
"""What overlayfs stacks at most."""
MOST_SIZE = 1 << 40
CONFIG_TYPE = re.compile(r"application/vnd\.(oci\.image\.config\.v1|docker\.container\.image\.v1)\+json")
LAYER_TYPE = re.compile(
    r"application/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1\.tar|docker\.image\.rootfs(\.foreign)?\.diff\.tar)([.+](gzip|zstd))?"
)


def pull(
    store: ImageStore,
    reference: Reference,
    *,
    credentials: Credentials | None,
    insecure: bool,
    confined: bool,
    progress: Progress,
) -> Image:
    """See :meth:`runtime.api.Engine.pull`."""
    if reference.registry == BUILT_IN:
        raise InvalidSpec(
            "Images of slipway.local are built on this node, not pulled.",
            hint="Choose it from the catalog.",
            field="image",
        )
    progress(Step("resolve", detail=str(reference)))
    with (
        store.leases.lease("pull") as lease,
        _left_to_the_next(lease),
        RegistryClient(
            reference, credentials, insecure=insecure, confined=confined, containers=store.containers
        ) as client,
    ):
        manifest = _platform_manifest(client, reference)
        config, layers = _shape(parse_json(manifest))
        lease.hold(str(row["digest"]) for row in (config, *layers))
        failpoint("pull.resolved")
        sizes = {str(row["digest"]): int(row["size"]) for row in (config, *layers)}
        missing = sum(size for digest, size in sizes.items() if not store.blobs.has(digest))
        check_room(store.blobs.ingest, missing)
        late = DeadlineExceeded("The image did not arrive within an hour.", hint="Try again: what has come is kept.")
        until = time.monotonic() + PULL_WITHIN_S
        meter = Meter(progress, "download", sum(sizes.values()), reference.registry, until, late)
        _fetch(store, client, config, meter)
        diff_ids = store.check_config(store.blobs.json(config["digest"]), len(layers))
        lease.hold(diff_ids)
        failpoint("pull.configured")
        _fetch_layers(store, client, layers, diff_ids, meter)
        failpoint("pull.fetched")
        return store.adopt(manifest, reference, lease, progress)


@contextlib.contextmanager
def _left_to_the_next(lease: Lease) -> Iterator[None]:
    """What has come before a failure that may pass is what the next try goes on from."""
    try:
        yield
    except (ImageUnavailable, DeadlineExceeded):
        lease.leave()
        raise


def _platform_manifest(client: RegistryClient, reference: Reference) -> bytes:
    """The manifest for this node, through indexes if there are any.  Raises ImageUnsuitable that says which platforms there are."""
    content = _verified(client.manifest(reference.selector), reference.digest)
    for _ in range(MOST_NESTED):
        parsed = parse_json(content)
        if "manifests" not in parsed:
            return content
        digest = choose_platform(parsed["manifests"])
        content = _verified(client.manifest(digest), digest)
    raise ImageCorrupt("The image's manifest is not one.", hint="The image must be pushed anew.")


def choose_platform(rows: object) -> str:
    """Digest of the row of an index (image-spec, image-index.md) for this node.  Of several variants the plainest, which every
    processor of the architecture has; else a row that names no platform, whose configuration will tell."""
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    known = [row for row in known if is_digest(row.get("digest"))]
    wanted = architecture()
    fitting = [row for row in known if _platform(row)[:2] == ("linux", wanted)]
    if fitting:
        return str(min(fitting, key=lambda row: _platform(row)[2])["digest"])
    silent = [row for row in known if row.get("platform") is None]
    if silent:
        return str(silent[0]["digest"])
    have = ", ".join(sorted({f"{os}/{of}" for os, of, _ in map(_platform, known) if os != "unknown"}))
    raise ImageUnsuitable(
        f"The image is not made for linux/{wanted}; it is there for {have or 'no platform'}.",
        hint="Use an image for this architecture.",
        field="image",
    )


def may_be_ours(row: Mapping[str, Any]) -> bool:
    """Of an archive's index, which has an image for each platform, or what attests of one, side by side: not one that is said to be another's."""
    return row.get("platform") is None or _platform(row)[:2] == ("linux", architecture())


def _platform(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Operating system, architecture, variant; of an index in the index, whose rows tell, this node's."""
    platform = row.get("platform")
    if not isinstance(platform, dict):
        return ("linux", architecture(), "~") if row.get("mediaType") in INDEXES else ("unknown", "unknown", "")
    return tuple(str(platform.get(key) or "")[:40] for key in ("os", "architecture", "variant"))  # type: ignore[return-value]


def _verified(content: bytes, digest: str) -> bytes:
    if digest and digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
        raise digest_mismatch()
    return content


def _shape(manifest: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Config and layers.  Raises ImageUnsuitable for what is no image for containers, ImageCorrupt for what is no manifest."""
    if manifest.get("schemaVersion") == 1:
        raise ImageUnsuitable(
            "The image has a manifest of schema 1, long out of use.", hint="Push it anew.", field="image"
        )
    config, layers = manifest.get("config"), manifest.get("layers")
    rows = [config, *layers] if isinstance(layers, list) else []
    if not rows or not all(_is_descriptor(row) for row in rows):
        raise ImageCorrupt("The image's manifest is not one.", hint="The image must be pushed anew.")
    if rows[0]["size"] > MANIFEST_LIMIT:
        raise ImageCorrupt("The image's configuration is too large.", hint="Use another image.")
    kinds = [(rows[0], CONFIG_TYPE), *((row, LAYER_TYPE) for row in rows[1:])]
    for row, pattern in kinds:
        if "mediaType" in row and not pattern.fullmatch(str(row["mediaType"])):
            raise ImageUnsuitable(
                f"What the registry has by that name is no image for containers: it holds {str(row['mediaType'])[:100]!r}.",
                hint="Use another image.",
                field="image",
            )
    if len(rows) > MOST_LAYERS:
        raise ImageUnsuitable("The image has more layers than can be mounted.", hint="Squash the image.", field="image")
    return rows[0], rows[1:]


def _is_descriptor(row: object) -> bool:
    if not isinstance(row, dict) or not is_digest(row.get("digest")):
        return False
    size = row.get("size")
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size < MOST_SIZE


def _fetch_layers(
    store: ImageStore,
    client: RegistryClient,
    layers: list[Mapping[str, Any]],
    diff_ids: list[str],
    meter: Meter,
) -> None:
    def one(layer: Mapping[str, Any], diff_id: str) -> None:
        _fetch(store, client, layer, meter)
        store.ensure_layer(str(layer["digest"]), diff_id)

    meter.together(partial(one, layer, diff_id) for layer, diff_id in zip(layers, diff_ids, strict=True))


def _fetch(store: ImageStore, client: RegistryClient, row: Mapping[str, Any], meter: Meter) -> None:
    """One blob, verified.  Raises ImageCorrupt, OutOfSpace, and what the client raises."""
    digest, size = str(row["digest"]), int(row["size"])
    part = store.blobs.part(digest, meter.registry)
    with store.blob_lock(part.name):
        if store.blobs.came_from(digest, meter.registry):
            if _size(store.blobs.path(digest)) != size:
                raise digest_mismatch()
            meter.at(digest, size)
            return
        try:
            _persist(client, digest, size, part, meter)
            failpoint("pull.downloaded")
            with part.open("rb") as content:
                actual = hashlib.file_digest(content, "sha256").hexdigest()
                os.fsync(content.fileno())
            if f"sha256:{actual}" != digest:
                raise digest_mismatch()
            store.blobs.arrived(digest, part, meter.registry)
        except ImageCorrupt:
            part.unlink(missing_ok=True)
            raise
        except OSError as error:
            part.unlink(missing_ok=True)
            raise (out_of_space() if disk_full(error) else error) from None


def _persist(client: RegistryClient, digest: str, size: int, part: Path, meter: Meter) -> None:
    """Go on from where a broken connection left the part, for as long as each try brings something."""
    fruitless = 0
    while (have := _size(part)) < size or not part.exists():
        try:
            _download(client, digest, size, part, meter)
        except ImageUnavailable:
            fruitless = 0 if _size(part) - have >= FRUIT else fruitless + 1
            if fruitless == FRUITLESS or meter.stopped.wait(PAUSE_S * fruitless):
                raise
    meter.at(digest, size)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _download(client: RegistryClient, digest: str, size: int, part: Path, meter: Meter) -> None:
    with (
        client.blob(digest, _size(part)) as (begins, whole, chunks),
        part.open("r+b" if part.exists() else "wb") as file,
    ):
        if whole is not None and whole != size:
            raise digest_mismatch()
        file.seek(begins)
        file.truncate()
        room = Room(part.parent, MOST_SIZE)
        got = begins
        for chunk in chunks:
            got += len(chunk)
            if got > size:
                raise digest_mismatch()
            room.take(len(chunk))
            file.write(chunk)
            meter.at(digest, got)
    if got < size:
        raise ImageUnavailable("The registry ended the download too early.", hint="Try again.")
