"""A new image on top of one that is here: its layers as they are, one more, and a changed configuration."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, BinaryIO

from runtime.api import CommitSpec, Image
from runtime.errors import InvalidSpec
from runtime.image.leases import Lease
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.store import CONFIG, LAYER, MANIFEST, ImageStore


def name_of(spec: CommitSpec) -> Reference:
    """Raises InvalidSpec."""
    found = Reference.parse(spec.reference)
    if found.registry == BUILT_IN:
        raise InvalidSpec(
            "Names of slipway.local are for images that are built on this node.",
            hint="Choose another.",
            field="reference",
        )
    return found


def derive(store: ImageStore, base: Image, layer: BinaryIO, newest: int, spec: CommitSpec, lease: Lease) -> Image:
    """``layer``: a plain tar; ``newest``: seconds since the epoch of its latest change, which becomes the image's time.

    ``lease`` holds what the base has.  Raises InvalidSpec, NotFound (the base is gone), OutOfSpace, ImageUnsuitable.
    """
    reference = name_of(spec)
    manifest = store.blobs.json(base.id)
    config = store.blobs.json(manifest["config"]["digest"])
    digest, size = store.blobs.copy_in(layer, lease)
    created = dt.datetime.fromtimestamp(newest, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if newest else base.created
    config["created"] = created
    config["config"] = _changed(config.get("config") or {}, spec)
    config["rootfs"]["diff_ids"].append(digest)
    row = {"created": created, "created_by": "commit of a container", "comment": spec.comment}
    config["history"] = [*(config.get("history") or []), row]
    content = json.dumps(config, sort_keys=True).encode()
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": store.blobs.put(content, lease), "size": len(content)},
        "layers": [*manifest["layers"], {"mediaType": LAYER, "digest": digest, "size": size}],
    }
    return store.adopt(json.dumps(body, sort_keys=True).encode(), reference, lease)


def _changed(config: dict[str, Any], spec: CommitSpec) -> dict[str, Any]:
    """As with a container, an entrypoint of one's own does away with the image's command."""
    changed = dict(config)
    if spec.entrypoint is not None:
        changed |= {"Entrypoint": list(spec.entrypoint), "Cmd": None}
    if spec.command is not None:
        changed["Cmd"] = list(spec.command)
    if spec.working_dir is not None:
        changed["WorkingDir"] = spec.working_dir
    if spec.user is not None:
        changed["User"] = spec.user
    variables = dict(row.partition("=")[::2] for row in changed.get("Env") or []) | dict(spec.env)
    changed["Env"] = [f"{name}={value}" for name, value in variables.items()]
    changed["Labels"] = {**(changed.get("Labels") or {}), **spec.labels}
    return changed
