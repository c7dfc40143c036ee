"""Dividing a quantity over UTC hours so that the parts sum to the whole, exactly.  Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

HOUR = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Part:
    window: dt.datetime
    """The hour."""
    starts_at: dt.datetime
    ends_at: dt.datetime
    quantity: int


@lru_cache(4096)
def hour_of(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def _pieces(start: dt.datetime, end: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime, dt.datetime]]:
    window = hour_of(start)
    while True:
        piece_end = min(end, window + HOUR)
        yield window, max(start, window), piece_end
        if piece_end >= end:
            return
        window += HOUR


def _microseconds(span: dt.timedelta) -> int:
    return span // dt.timedelta(microseconds=1)


@lru_cache(1024)
def _cut(start: dt.datetime, end: dt.datetime) -> tuple[tuple[dt.datetime, dt.datetime, dt.datetime, int], ...]:
    """The pieces with their lengths; all meters of a reading are cut alike."""
    return tuple((window, first, last, _microseconds(last - first)) for window, first, last in _pieces(start, end))


def split(quantity: int, start: dt.datetime, end: dt.datetime) -> list[Part]:
    """By time, with largest remainder; an interval without length (or a clock that stepped back) is one part."""
    if end <= start:
        return [Part(hour_of(start), start, start, quantity)]
    pieces = _cut(start, end)
    if len(pieces) == 1:
        return [Part(pieces[0][0], start, end, quantity)]
    total = sum(length for *_, length in pieces)
    shares = [divmod(quantity * length, total) for *_, length in pieces]
    left = quantity - sum(whole for whole, _ in shares)
    by_remainder = sorted(range(len(pieces)), key=lambda number: (-shares[number][1], number))
    extra = set(by_remainder[:left])
    return [
        Part(window, first, last, shares[number][0] + (number in extra))
        for number, (window, first, last, _) in enumerate(pieces)
    ]
