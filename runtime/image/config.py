"""What an image's configuration must be like before the image gets a name here (image-spec, config.md).

Everything after relies on it: the bundle, the console's rows, lists.  So a hostile one fails here, and only its own image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.errors import ImageCorrupt

PUSHED_ANEW = "The image must be pushed anew."
TEXTS = ("User", "WorkingDir", "StopSignal")
LISTS = ("Env", "Entrypoint", "Cmd")
TABLES = ("ExposedPorts", "Volumes", "Labels")


def check_fields(config: Mapping[str, Any]) -> None:
    """Raises ImageCorrupt that names the first field of the wrong kind."""
    for field in _wrong(config):
        raise ImageCorrupt(f"The image's configuration has a {field!r} of the wrong kind.", hint=PUSHED_ANEW)
    _check_characters(config)


def _wrong(config: Mapping[str, Any]) -> Iterator[str]:
    """Each field may be absent or null."""
    inner = config.get("config")
    if not isinstance(inner, dict | None):
        yield "config"
        return
    fields = inner or {}
    yield from (name for name in TEXTS if not isinstance(fields.get(name), str | None))
    yield from (name for name in LISTS if not _all(fields.get(name), str))
    yield from (name for name in TABLES if not isinstance(fields.get(name), dict | None))
    if not _all(config.get("history"), dict):
        yield "history"
    if not isinstance(config.get("created"), str | None):
        yield "created"


def _all(rows: object, kind: type) -> bool:
    return rows is None or (isinstance(rows, list) and all(isinstance(row, kind) for row in rows))


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
