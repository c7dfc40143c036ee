"""The points at which tests have a process die are those that the runtime passes."""

from __future__ import annotations

import re
from pathlib import Path

from runtime.engines.native import failpoint

RUNTIME = Path(failpoint.__file__).parents[2]


def test_every_point_is_listed_and_every_listed_one_is_there() -> None:
    """The tests in ``tests/crash`` kill at what is listed: one that is not would be nobody's."""
    listed = {point for name in failpoint.__all__ if name != "failpoint" for point in getattr(failpoint, name)}
    sources = [path.read_text(encoding="utf-8") for path in RUNTIME.rglob("*.py")]
    called = [argument for text in sources for argument in re.findall(r"(?<!def )\bfailpoint\(([^)]*)\)", text)]
    assert {argument.strip('"') for argument in called} == listed
    assert all(re.fullmatch(r'"[a-z]+\.[a-z]+"', argument) for argument in called), (
        "a name is written where it is passed"
    )
