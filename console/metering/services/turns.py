"""Whose turn it is.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def in_turn(due: Iterable[tuple[T, str]]) -> Iterator[tuple[T, str]]:
    """Each owner's first, then each one's second, and so on: nobody's many keep the others waiting.  ``due``: thing, owner."""
    waiting: dict[str, list[T]] = {}
    for one, owner in due:
        waiting.setdefault(owner, []).append(one)
    number = 0
    while waiting:
        waiting = {owner: some for owner, some in waiting.items() if len(some) > number}
        for owner, some in waiting.items():
            yield some[number], owner
        number += 1
