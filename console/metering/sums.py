"""Sums that a database's 64 bits hold, whatever is summed: of a quantity its billions and its rest apart."""

from __future__ import annotations

from django.db.models import F, Sum

LIMB = 10**9


def whole(column: str) -> Sum:
    return Sum(F(column) / LIMB)


def rest(column: str) -> Sum:
    return Sum(F(column) % LIMB)
