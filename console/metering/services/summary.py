"""A rating in a few rows: what was bought at each price, for the invoice as a person reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from console.metering.models.decimals import plain
from console.metering.rating import INCLUDED, Line
from console.metering.units import total

Key = tuple[bool, str, str, str, str, str, str]
"""Correction or not, SKU, meter, unit, tier, unit price, list price."""


class Summary:
    """Of one rating's lines.  There are as many rows as there are prices, however many lines."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        """``rows``: what :meth:`rows` said of the lines before."""
        self._sums: dict[Key, tuple[Decimal, Decimal, Decimal, int]] = {
            (
                row["correction"], row["sku"], row["meter"], row["unit"], row["tier"], row["unit_price"],
                row["list_unit_price"],
            ): (Decimal(row["quantity"]), Decimal(row["list_cost"]), Decimal(row["cost"]), row["lines"])
            for row in rows
        }  # fmt: skip

    def add(self, lines: Iterable[Line]) -> None:
        for line in lines:
            prices = ["" if price is None else plain(price) for price in (line.unit_price, line.list_unit_price)]
            key = (line.correction, line.sku, line.meter, line.unit, line.tier, prices[0], prices[1])
            quantity, list_cost, cost, count = self._sums.get(key, (Decimal(0), Decimal(0), Decimal(0), 0))
            self._sums[key] = (
                total(quantity, line.pricing_quantity), total(list_cost, line.list_cost), total(cost, line.cost), count + 1,
            )  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """As ``RatingRun.summary`` keeps them: usage first, corrections behind; amounts are texts."""
        return [
            {
                "correction": key[0], "sku": key[1], "meter": key[2], "unit": key[3], "tier": key[4], "unit_price": key[5],
                "list_unit_price": key[6], "quantity": plain(sums[0]), "list_cost": plain(sums[1]), "cost": plain(sums[2]),
                "lines": sums[3],
            }
            for key, sums in sorted(self._sums.items(), key=lambda one: _order(one[0]))
        ]  # fmt: skip


def _order(key: Key) -> tuple[bool, str, bool, Key]:
    """What is included comes before the tiers."""
    return key[0], key[1], not key[4].startswith(INCLUDED), key
