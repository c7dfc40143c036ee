"""Dividing a quantity over UTC hours so that the parts sum to the whole, exactly.  Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

HOUR = dt.timedelta(hours=1)
HOUR_US = 3_600_000_000
LARGEST = 2**63 - 1
"""Quantity that a record holds, and value of a reading."""


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


def stretches(rate: int, us: int, wall_us: int) -> Iterator[tuple[int, int]]:
    """(from, to) in microseconds, in order, of a time ``us`` long in which so much a microsecond is charged: all of it in one,
    but where what lies in one hour of its ``wall_us`` is more than a record holds.  Then each is as long as a record holds,
    and the last is what is left.
    """
    wall = max(1, wall_us)
    longest = us if rate * us * min(HOUR_US, wall) < LARGEST * wall else LARGEST // rate
    start = 0
    while us - start > longest:
        yield start, start + longest
        start += longest
    yield start, us
