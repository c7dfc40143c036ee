"""The time that a page is about: whole hours, UTC, the end not included.  Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.utils.translation import gettext as _

from console.core.errors import Invalid
from console.metering.splitting import HOUR, hour_of

DAY = dt.timedelta(days=1)
LONGEST = dt.timedelta(days=3 * 366)
YEARS = range(1970, 9000)
"""Of which one may ask: whatever is counted on from there is a date, too."""
NO_YEAR = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Span:
    start: dt.datetime
    end: dt.datetime

    @property
    def whole_days(self) -> bool:
        return not self.start.hour and not self.end.hour

    @property
    def before(self) -> Span:
        """As long, and just before it."""
        return Span(self.start - (self.end - self.start), self.start)


def day_of(at: dt.datetime) -> dt.datetime:
    return hour_of(at).replace(hour=0)


def moment(field: str, text: str) -> dt.datetime:
    """``2026-11-01`` or ``2026-11-01T13:00``, UTC.  Raises Invalid."""
    try:
        found = dt.datetime.fromisoformat(text)
        found = found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        found = NO_YEAR
    if found.year not in YEARS:
        raise Invalid(field, _("Write a date such as 2026-11-01, or an hour such as 2026-11-01T13:00."))
    if found.minute or found.second or found.microsecond:
        raise Invalid(field, _("Usage is kept by the hour: choose a full hour."))
    return found


def span(start: str, end: str, now: dt.datetime, *, usual: dt.timedelta) -> Span:
    """From ``from`` and ``to`` of a query; an empty end is the next full hour, an empty start the ``usual`` time before the end."""
    last = moment("to", end) if end else hour_of(now) + HOUR
    try:
        first = moment("from", start) if start else last - usual
    except OverflowError:
        raise Invalid("to", _("Write a date such as 2026-11-01, or an hour such as 2026-11-01T13:00.")) from None
    if last <= first:
        raise Invalid("to", _("The end is not after the start."))
    if last - first > LONGEST:
        raise Invalid("from", _("Choose three years at most."))
    return Span(first, last)
