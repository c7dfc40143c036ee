"""Times as a person types them on the command line."""

from __future__ import annotations

import time

import pytest

from runtime.cli.moments import moment
from runtime.errors import InvalidSpec


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("2h30m", 9000), ("1d", 86400), ("1.5s", 1.5), ("1d2h3m4s", 93784)]
)
def test_how_long_ago(text: str, seconds: float) -> None:
    before = time.time()
    found = moment(text, "--since")
    assert found is not None
    assert before - seconds <= found <= time.time() - seconds


@pytest.mark.parametrize(
    ("text", "at"),
    [("2026-11-23T20:00:00Z", 1_795_464_000.0), ("2026-11-23T21:00:00+01:00", 1_795_464_000.0), ("1795464000", 1_795_464_000.0)],
)  # fmt: skip
def test_a_moment(text: str, at: float) -> None:
    assert moment(text, "--since") == at


@pytest.mark.parametrize("text", ["", "yesterday", "m", "-5m", "1e400", "2026-13-01"])
def test_what_is_no_time_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        moment(text, "--until")
    assert caught.value.field == "--until"
