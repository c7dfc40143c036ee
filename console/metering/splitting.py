"""Dividing a quantity over UTC hours so that the parts sum to the whole, exactly.  Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

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


class Cut(NamedTuple):
    """A stretch of an interval that lies in one hour; there is nothing in it yet."""

    window: dt.datetime
    starts_at: dt.datetime
    ends_at: dt.datetime
    us: int
    """Its length."""


def _pieces(start: dt.datetime, end: dt.datetime) -> Iterator[Cut]:
    window = hour_of(start)
    while True:
        piece_end = min(end, window + HOUR)
        piece_start = max(start, window)
        yield Cut(window, piece_start, piece_end, (piece_end - piece_start) // dt.timedelta(microseconds=1))
        if piece_end >= end:
            return
        window += HOUR


@lru_cache(1024)
def cut(start: dt.datetime, end: dt.datetime) -> tuple[Cut, ...]:
    """At the hours; an interval without length (or a clock that stepped back) is one piece at its start."""
    return tuple(_pieces(start, end)) if start < end else (Cut(hour_of(start), start, start, 0),)


def shares(quantity: int, pieces: Sequence[Cut]) -> list[int]:
    """Of each piece, by its length, with largest remainder."""
    if len(pieces) == 1:
        return [quantity]
    if not quantity:
        return [0] * len(pieces)
    total = sum(piece.us for piece in pieces)
    whole, remainders = [], []
    for piece in pieces:
        share, remainder = divmod(quantity * piece.us, total)
        whole.append(share)
        remainders.append(remainder)
    left = quantity - sum(whole)
    if left:
        for number in sorted(range(len(pieces)), key=lambda number: (-remainders[number], number))[:left]:
            whole[number] += 1
    return whole


def split(quantity: int, start: dt.datetime, end: dt.datetime) -> list[Part]:
    """By time, with largest remainder."""
    pieces = cut(start, end)
    return [
        Part(piece.window, piece.starts_at, piece.ends_at, share)
        for piece, share in zip(pieces, shares(quantity, pieces), strict=True)
    ]
