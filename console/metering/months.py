"""UTC calendar months.  Pure."""

from __future__ import annotations

import datetime as dt


def month_of(at: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """The UTC calendar month: its first moment, and the next one's."""
    start = at.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return start, (start + dt.timedelta(days=32)).replace(day=1)
