"""Times as a person types them: a moment, seconds since the epoch, or how long ago."""

from __future__ import annotations

import re
import time
from datetime import datetime

from runtime.errors import InvalidSpec

AGO = re.compile(r"(?:(\d{1,12})d)?(?:(\d{1,12})h)?(?:(\d{1,12})m)?(?:(\d{1,12}(?:\.\d{1,12})?)s)?", re.ASCII)
SECONDS = (86400, 3600, 60, 1)


def moment(text: str | None, field: str) -> float | None:
    """Seconds since the epoch.  A time without an offset is the person's own.  Raises InvalidSpec."""
    if text is None:
        return None
    ago = AGO.fullmatch(text)
    if ago and any(ago.groups()):
        return time.time() - sum(float(part or 0) * each for part, each in zip(ago.groups(), SECONDS, strict=True))
    try:
        return (
            float(text)
            if re.fullmatch(r"\d{1,12}(\.\d{1,12})?", text, re.ASCII)
            else datetime.fromisoformat(text).timestamp()
        )
    except (ValueError, OverflowError):
        raise InvalidSpec(
            f"{text!r} is not a time.", hint="Write 2026-01-31T12:00:00Z, or how long ago, such as 10m.", field=field
        ) from None
