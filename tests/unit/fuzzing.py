"""How long fuzzing goes on, and what all of it is made of.

``SLIPWAY_FUZZ=100 pytest tests/unit -k fuzz`` tries a hundred times as much as the suite does.
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FACTOR = int(os.environ.get("SLIPWAY_FUZZ", "1"))


def fuzzed(examples: int) -> Any:
    """A decorator under ``@given``."""
    quiet = [
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ]
    return settings(max_examples=examples * FACTOR, deadline=None, suppress_health_check=quiet)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ODD_TEXT = st.text(alphabet=st.sampled_from("09aZ.:/-@[]_%+,= \t\n\0٣é") | st.characters(), max_size=40)


def bent(honest: Any) -> st.SearchStrategy[Any]:
    """The same value, or with a part of it replaced, removed or added, at any depth."""
    if isinstance(honest, dict):
        kept = {key: bent(value) for key, value in honest.items()}
        whole: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional=kept)
        return st.one_of(st.fixed_dictionaries(kept), whole, JSON)
    if isinstance(honest, list):
        rows = [bent(value) for value in honest]
        return st.one_of(st.tuples(*rows).map(list), st.lists(st.one_of(*rows), max_size=4) if rows else JSON, JSON)
    return st.one_of(st.just(honest), st.just(honest), st.just(honest), JSON)


def broken(content: bytes) -> st.SearchStrategy[bytes]:
    """An honest file bent in its words, cut, or with other bytes in it."""
    words = bent(json.loads(content)).map(lambda value: json.dumps(value).encode())
    cut = st.integers(0, len(content)).map(lambda at: content[:at])
    return st.one_of(
        words, cut, st.binary(max_size=64), st.just(b"[" * 100_000), st.just(b'{"state": ' + b"9" * 5000 + b"}")
    )
