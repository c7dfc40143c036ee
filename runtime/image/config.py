"""What an image's configuration must be like before the image gets a name here (image-spec, config.md).

Everything after relies on it: the bundle, the console's rows, lists.  So a hostile one fails here, and only its own image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runtime.errors import ImageCorrupt

PUSHED_ANEW = "The image must be pushed anew."
TEXTS = ("User", "WorkingDir", "StopSignal")
LISTS = ("Env", "Entrypoint", "Cmd")
TABLES = ("ExposedPorts", "Volumes", "Labels")


def check_fields(config: Mapping[str, Any]) -> None:
    """Raises ImageCorrupt that names the first field of the wrong kind."""
    inner = config.get("config")
    _is(inner is None or isinstance(inner, dict), "config")
    for name in TEXTS:
        _is(isinstance((inner or {}).get(name) or "", str), name)
    for name in LISTS:
        rows = (inner or {}).get(name) or []
        _is(isinstance(rows, list) and all(isinstance(row, str) for row in rows), name)
    for name in TABLES:
        _is(isinstance((inner or {}).get(name) or {}, dict), name)
    history = config.get("history") or []
    _is(isinstance(history, list) and all(isinstance(row, dict) for row in history), "history")
    _is(isinstance(config.get("created") or "", str), "created")
    _check_characters(config)


def _check_characters(config: Mapping[str, Any]) -> None:
    """Zero characters, halves of characters and numbers that are none: databases and programs take none of them."""
    try:
        text = json.dumps(config, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        raise _bad_characters() from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise _bad_characters()


def _bad_characters() -> ImageCorrupt:
    return ImageCorrupt("The image's configuration has characters that no program can be given.", hint=PUSHED_ANEW)


def _is(right: bool, field: str) -> None:
    if not right:
        raise ImageCorrupt(f"The image's configuration has a {field!r} of the wrong kind.", hint=PUSHED_ANEW)
