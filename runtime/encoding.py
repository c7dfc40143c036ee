"""Frozen dataclasses as the JSON of our state files: what ``json.dumps(asdict(…))`` writes, without the deep copy that takes most of its time."""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints


def encode(value: object, *, sort_keys: bool = False) -> bytes:
    """Dataclasses at any depth are objects, tuples are arrays.  Raises TypeError for what JSON has no word for."""
    return json.dumps(value, default=_members, sort_keys=sort_keys).encode()


def _members(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in _names(cast("Hashable", type(value)))}


@functools.cache
def _names(kind: Hashable) -> tuple[str, ...]:
    return tuple(one.name for one in fields(cast("Any", kind)))


def check(value: object) -> None:
    """Raises TypeError for a dataclass a member of which is not of its type, at any depth, as one that was made of a damaged file."""
    for name, kind in _kinds(cast("Hashable", type(value))).items():
        if not _is(getattr(value, name), kind):
            raise TypeError(f"{type(value).__name__}.{name} is no {kind}")


@functools.cache
def _kinds(kind: Hashable) -> dict[str, Any]:
    hints = get_type_hints(cast("Any", kind))
    return {one.name: hints[one.name] for one in fields(cast("Any", kind))}


def _is(value: object, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return any(_is(value, one) for one in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:  # of any length
        return isinstance(value, tuple) and all(_is(one, parts[0]) for one in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _is(key, parts[0]) and _is(one, parts[1]) for key, one in value.items()
        )
    if type(value) is not kind:
        return kind is float and type(value) is int
    if is_dataclass(kind):
        check(value)
    return True
