"""Pushing: what the registry lacks goes up, up to three blobs at once, and the manifest last, so that no name ever leads to a part."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from runtime.api import Credentials, Progress, Step
from runtime.errors import DeadlineExceeded, ImageCorrupt, InvalidSpec
from runtime.failpoint import failpoint
from runtime.image.blobs import parse_json
from runtime.image.meter import Meter
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.registry import RegistryClient
from runtime.image.store import MANIFEST, ImageStore
from runtime.image.upload import Uploader

PUSH_WITHIN_S = 3600.0
MOST_BESIDE = 8
"""Repositories that are asked for content to mount."""
ELSEWHERE = ("nondistributable", "foreign")
"""In the media type of a layer that registries do not take: it is fetched from where its ``urls`` say."""


def push(
    store: ImageStore,
    image: str,
    reference: str | None,
    *,
    credentials: Credentials | None,
    insecure: bool,
    confined: bool,
    progress: Progress,
) -> str:
    """See :meth:`runtime.api.ImageService.push`."""
    with store.held([image], "push") as (_, [found]):
        id = found.id
        target = target_of(image if reference is None else reference, id)
        progress(Step("resolve", detail=str(target)))
        failpoint("push.held")
        content = store.blobs.path(id).read_bytes()
        manifest = parse_json(content)
        rows = _blobs(store, manifest)
        beside = _beside(store, target)
        with RegistryClient(
            target,
            credentials,
            insecure=insecure,
            confined=confined,
            containers=store.containers,
            push=True,
            beside=sorted({name for digest, name in beside.items() if digest in rows}),
        ) as client:
            late = DeadlineExceeded(
                "The image did not reach the registry within an hour.",
                hint="Try again: what is there is not sent again.",
            )
            meter = Meter(
                progress, "upload", sum(rows.values()), target.registry, time.monotonic() + PUSH_WITHIN_S, late
            )
            uploader = Uploader(client, target, meter)
            meter.together(
                partial(uploader.blob, digest, size, store.blobs.path(digest), beside.get(digest, ""))
                for digest, size in rows.items()
            )
            failpoint("push.blobs")
            uploader.manifest(target.selector, content, str(manifest.get("mediaType") or MANIFEST))
    failpoint("push.named")
    return f"{target.registry}/{target.repository}@{id}"


def target_of(text: str, id: str) -> Reference:
    """Raises InvalidSpec."""
    if text.startswith("sha256:"):
        raise InvalidSpec(
            "An image that is called by its id needs a name to be pushed as.",
            hint="Write it as [registry/]name[:tag].",
            field="reference",
        )
    target = Reference.parse(text)
    if target.registry == BUILT_IN:
        raise InvalidSpec(
            "Images of slipway.local stay on this node.", hint="Give the name of a registry's.", field="reference"
        )
    if target.digest and target.digest != id:
        raise InvalidSpec(
            "The name has another digest than the image.",
            hint="Give a tag, or the image's own digest.",
            field="reference",
        )
    return target


def _blobs(store: ImageStore, manifest: Mapping[str, Any]) -> dict[str, int]:
    """Digest -> size of what the registry must have, each as large as the manifest says.  Raises ImageCorrupt."""
    rows = [manifest["config"], *manifest["layers"]]
    wanted = [row for row in rows if not any(word in str(row.get("mediaType")) for word in ELSEWHERE)]
    for row in wanted:
        file = store.blobs.path(str(row["digest"]))
        if not file.exists() or file.stat().st_size != row["size"]:
            raise ImageCorrupt("A part of the image is missing.", hint="Pull it again.")
    return {str(row["digest"]): int(row["size"]) for row in wanted}


def _beside(store: ImageStore, target: Reference) -> dict[str, str]:
    """Digest -> another repository of the registry that this node knows to have it."""
    found: dict[str, str] = {}
    for image in store.images():
        for name in image.references:
            known = Reference.parse(name)
            if known.registry == target.registry and known.repository != target.repository:
                found |= {layer.digest: known.repository for layer in image.layers}
    kept = sorted(set(found.values()))[:MOST_BESIDE]
    return {digest: name for digest, name in found.items() if name in kept}
