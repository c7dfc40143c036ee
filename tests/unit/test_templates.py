"""A template is read by people and compared by git: an element a line, indented by what it lies in."""

from __future__ import annotations

from pathlib import Path

import pytest

import console

FOLDER = Path(console.__file__).parents[1] / "templates"
WIDTH = 120


@pytest.mark.parametrize("name", sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.html")))
def test_a_line_of_a_template_can_be_read(name: str) -> None:
    lines = (FOLDER / name).read_text().splitlines()
    assert {number: line for number, line in enumerate(lines, 1) if len(line) > WIDTH} == {}
    assert {number: line for number, line in enumerate(lines, 1) if line != line.rstrip() or "\t" in line} == {}
