"""The names of the built-in recipes: what one is called is told without reading any."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).with_name("recipes")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def known(slug: str) -> bool:
    """Whether there is a recipe of this name."""
    return SLUG.fullmatch(slug) is not None and (FOLDER / f"{slug}.toml").is_file()
