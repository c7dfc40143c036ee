"""Styles and scripts are read by people and compared by git: a declaration a line, and lines that fit a screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import console

SOURCE = Path(console.__file__).parents[1]
STYLES = SOURCE / "static" / "css"
SCRIPTS = SOURCE / "static" / "js"
STYLE_WIDTH = 120
SCRIPT_WIDTH = 160
LINES = 400
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(pattern))


def misfits(lines: list[str], width: int) -> dict[int, str]:
    return {
        number: line
        for number, line in enumerate(lines, 1)
        if len(line) > width or line != line.rstrip() or "\t" in line
    }


@pytest.mark.parametrize("name", names(STYLES, "*.css"))
def test_a_stylesheet_can_be_read(name: str) -> None:
    text = (STYLES / name).read_text()
    lines = text.splitlines()
    assert misfits(lines, STYLE_WIDTH) == {}
    assert re.fullmatch(r"/\* .+\. \*/", lines[0]), "the first line says what the file styles"
    assert len(lines) <= LINES
    bare = COMMENT.sub("", text).splitlines()
    assert [line for line in bare if re.search(r"[;{}]\s*\S", line)] == [], "a declaration or a brace ends its line"


@pytest.mark.parametrize("name", names(STYLES, "*.css"))
def test_a_stylesheet_is_loaded(name: str) -> None:
    assert f"{{% static 'css/{name}' %}}" in (SOURCE / "templates" / "base.html").read_text()


@pytest.mark.parametrize("name", names(SCRIPTS, "*.js"))
def test_a_script_can_be_read(name: str) -> None:
    assert misfits((SCRIPTS / name).read_text().splitlines(), SCRIPT_WIDTH) == {}
