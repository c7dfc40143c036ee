"""Costs: exact on every line, the same however a quantity is divided, rounded once."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.metering.currencies import DIGITS, rounded
from console.metering.models import Meter
from console.metering.rating import Offer, Terms, Used, rate, terms
from console.metering.units import EXACT, UNITS, difference, product, total

HOUR = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
PRICES = st.decimals(0, 10**6, places=12)
SIZE = UNITS[Meter.MEMORY_LIMIT]["GiB-Seconds"]


@st.composite
def some_terms(draw: st.DrawFn) -> Terms:
    starts = sorted(draw(st.sets(st.integers(1, 10**6), max_size=3)))
    tiers = [(Decimal(start), draw(PRICES)) for start in [0, *starts]]
    return terms(1, "MEM", "GiB-Seconds", SIZE, Decimal(draw(st.integers(0, 10**5))), tiers)


def used(quantities: list[int]) -> list[Used]:
    return [
        Used(HOUR + dt.timedelta(hours=n), f"r{n % 3}", "memory_limit", q, "exact") for n, q in enumerate(quantities)
    ]


QUANTITIES = st.lists(st.integers(0, 10**18), min_size=1, max_size=8)


@given(QUANTITIES, some_terms(), some_terms())
def test_price_times_quantity_is_cost_on_every_line(quantities: list[int], agreed: Terms, listed: Terms) -> None:
    offer: Offer = (agreed, listed)
    lines = list(rate(used(quantities), lambda _meter, _window: offer))
    assert sum(line.quantity for line in lines) == sum(quantities)
    for line in lines:
        assert line.unit_price is not None
        assert line.list_unit_price is not None
        assert product(line.unit_price, line.pricing_quantity) == line.cost
        assert product(line.list_unit_price, line.pricing_quantity) == line.list_cost
        assert product(line.pricing_quantity, Decimal(SIZE)) == line.quantity


@given(QUANTITIES, some_terms())
def test_hours_cost_together_what_they_cost_as_one(quantities: list[int], agreed: Terms) -> None:
    def offer(_meter: str, _window: dt.datetime) -> Offer:
        return agreed, agreed

    each = total(*(line.cost for line in rate(used(quantities), offer)))
    once = total(*(line.cost for line in rate(used([sum(quantities)]), offer)))
    assert each == once


def bought(found: Terms, quantity: int) -> Decimal:
    """Step by step, and not line by line."""
    edges = [start for start, _, _ in found.steps] + [max(quantity, found.steps[-1][0])]
    held = [max(0, min(edges[n + 1], quantity) - min(edges[n], quantity)) for n in range(len(found.steps))]
    costs = (Decimal(some) * price / SIZE for some, (_, _, price) in zip(held, found.steps, strict=True))
    with localcontext(EXACT):
        return sum(costs, Decimal(0))


@given(QUANTITIES, some_terms(), some_terms())
def test_the_contract_and_the_list_are_each_priced_by_their_own_steps(
    quantities: list[int], agreed: Terms, listed: Terms
) -> None:
    lines = list(rate(used(quantities), lambda _meter, _window: (agreed, listed)))
    assert total(*(line.cost for line in lines)) == bought(agreed, sum(quantities))
    assert total(*(line.list_cost for line in lines)) == bought(listed, sum(quantities))


def test_included_units_cost_nothing_and_tiers_begin_behind_them() -> None:
    held = terms(1, "OUT", "GB", 10**9, Decimal(1), [(Decimal(0), Decimal("0.10")), (Decimal(2), Decimal("0.05"))])
    lines = list(rate([Used(HOUR, "r", "net_tx", 5 * 10**9, "exact")], lambda _meter, _window: (held, held)))
    assert [(line.tier, line.pricing_quantity, line.cost) for line in lines] == [
        ("i/i", Decimal(1), Decimal(0)),
        ("0/0", Decimal(2), Decimal("0.20")),
        ("1/1", Decimal(2), Decimal("0.10")),
    ]


def test_every_unit_makes_decimals_that_end() -> None:
    for size in {size for units in UNITS.values() for size in units.values()}:
        assert 10**60 % size == 0, "only 2 and 5 divide it"


@pytest.mark.parametrize(
    ("amount", "currency", "due"),
    [("0.005", "EUR", "0.00"), ("0.015", "EUR", "0.02"), ("2.5", "JPY", "2"), ("1.00050", "KWD", "1.000")],
)
def test_rounding_is_half_even_to_the_currency(amount: str, currency: str, due: str) -> None:
    assert rounded(Decimal(amount), currency) == Decimal(due)
    assert len(str(rounded(Decimal(amount), currency)).partition(".")[2]) == DIGITS[currency]


@given(st.decimals(0, 10**9, places=38), st.decimals(0, 10**9, places=38))
def test_sums_and_differences_keep_every_digit(left: Decimal, right: Decimal) -> None:
    def whole(value: Decimal) -> int:
        return int(value.scaleb(38, EXACT))

    assert whole(total(left, right)) == whole(left) + whole(right)
    assert whole(difference(left, right)) == whole(left) - whole(right)
