"""Quantities into costs.  Pure: integers and Decimals in, Decimals out, nothing is rounded.

A month's quantity of a SKU is counted up over the tenant's resources, hour after hour.  First come the included units, then the
tiers.  An hour that reaches over a boundary, of the list or of the contract, becomes a line on either side of it, so each line
has one unit price and ``unit price x pricing quantity = cost``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from console.metering.units import EXACT, in_units, product

INCLUDED = "i"


@dataclass(frozen=True, slots=True)
class Terms:
    """The price of a SKU.  ``steps``: from so many base units of the month on, in order, the first from 0."""

    book: int
    sku: str
    unit: str
    size: int
    """Base units in a pricing unit."""
    steps: tuple[tuple[int, str, Decimal], ...]
    """(from, name of the tier, price of a unit)."""

    def at(self, position: int) -> tuple[str, Decimal]:
        """Tier and price of the base unit behind ``position``."""
        name, price = self.steps[0][1:]
        for start, tier, step in self.steps:
            if start <= position:
                name, price = tier, step
        return name, price


def terms(
    book: int, sku: str, unit: str, size: int, included: Decimal, tiers: Iterable[tuple[Decimal, Decimal]]
) -> Terms:
    """``tiers``: (from, price), in units beyond the included.  Raises decimal.Inexact for a part of a base unit."""
    base = whole(included, size)
    steps = [(0, INCLUDED, Decimal(0))] if base else []
    for number, (start, price) in enumerate(tiers):
        steps.append((base + whole(start, size), str(number), price))
    return Terms(book, sku, unit, size, tuple(steps))


def whole(units: Decimal, size: int) -> int:
    """So many units in base units.  Raises decimal.Inexact where that is not a whole number."""
    return int(EXACT.to_integral_exact(product(units, Decimal(size))))


@dataclass(frozen=True, slots=True)
class Used:
    """An hour of one resource on one meter."""

    window: dt.datetime
    resource: str
    meter: str
    quantity: int
    quality: str
    records: int = 0
    """That it is the sum of."""


@dataclass(frozen=True, slots=True)
class Line:
    window: dt.datetime
    resource: str
    meter: str
    sku: str
    tier: str
    """Of the contract and of the list, such as ``0/i``."""
    unit: str
    quantity: int
    pricing_quantity: Decimal
    list_unit_price: Decimal | None
    unit_price: Decimal | None
    list_cost: Decimal
    cost: Decimal
    book: int
    list_book: int
    quality: str
    correction: bool = False


Offer = tuple[Terms, Terms]
"""What holds for the tenant, and what the list says."""


def rate(
    used: Iterable[Used], offer: Callable[[str, dt.datetime], Offer | None], reached: dict[str, int] | None = None
) -> Iterator[Line]:
    """``used`` in order of time; ``offer`` of a meter at an hour, None where it has no price and so costs nothing.

    ``reached``: by SKU how many base units of the month came before; it is counted on.
    """
    reached = {} if reached is None else reached
    for one in used:
        found = offer(one.meter, one.window)
        if found is None:
            continue
        sku = found[0].sku
        position = reached.get(sku, 0)
        reached[sku] = position + one.quantity
        yield from _lines(one, position, *found)


def _lines(one: Used, position: int, agreed: Terms, listed: Terms) -> Iterator[Line]:
    end = position + one.quantity
    cuts = {start for start, _, _ in (*agreed.steps, *listed.steps) if position < start < end}
    edges = [position, *sorted(cuts), end]
    for start, stop in pairwise(edges):
        if stop == start:
            continue
        (tier, price), (list_tier, list_price) = agreed.at(start), listed.at(start)
        quantity = in_units(stop - start, agreed.size)
        yield Line(
            window=one.window,
            resource=one.resource,
            meter=one.meter,
            sku=agreed.sku,
            tier=f"{tier}/{list_tier}",
            unit=agreed.unit,
            quantity=stop - start,
            pricing_quantity=quantity,
            list_unit_price=list_price,
            unit_price=price,
            list_cost=product(list_price, quantity),
            cost=product(price, quantity),
            book=agreed.book,
            list_book=listed.book,
            quality=one.quality,
        )
