"""Which start of its container a bundle is of: what a final reading needs should the container's own files be damaged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from runtime.api import Limits
from runtime.encoding import encode

KEY = "slipway.start"


@dataclass(frozen=True, slots=True)
class Start:
    epoch: int
    limits: Limits
    """That it began with."""


def as_annotations(epoch: int, limits: Limits) -> dict[str, str]:
    """Of the bundle's configuration (runtime-spec, config.md, "Annotations")."""
    return {KEY: encode(Start(epoch, limits)).decode()}


def of_bundle(folder: Path) -> Start | None:
    """None: the bundle is gone, damaged or an older version's."""
    try:
        told = json.loads(json.loads((folder / "config.json").read_bytes())["annotations"][KEY])
        return Start(int(told["epoch"]), Limits(**told["limits"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
