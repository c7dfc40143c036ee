"""Frozen dataclasses as the JSON of our state files: what ``json.dumps(asdict(…))`` writes, without the deep copy that takes most of its time."""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable
from dataclasses import fields
from typing import Any, cast


def encode(value: object, *, sort_keys: bool = False) -> bytes:
    """Dataclasses at any depth are objects, tuples are arrays.  Raises TypeError for what JSON has no word for."""
    return json.dumps(value, default=_members, sort_keys=sort_keys).encode()


def _members(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in _names(cast("Hashable", type(value)))}


@functools.cache
def _names(kind: Hashable) -> tuple[str, ...]:
    return tuple(one.name for one in fields(cast("Any", kind)))
