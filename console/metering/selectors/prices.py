"""Which prices hold for a tenant at an hour."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal

from console.metering.models import Meter, PriceBook
from console.metering.rating import Offer, Terms, terms
from console.metering.units import UNITS


class Prices:
    """Of one tenant, read once: every published book that may hold for it."""

    def __init__(self, tenant_id: str) -> None:
        published = PriceBook.objects.filter(published_at__isnull=False).order_by("valid_from", "version")
        found = published.prefetch_related("prices")
        self._list = [(book.valid_from, book, _terms(book)) for book in found.filter(tenant=None)]
        self._contract = [(book.valid_from, book, _terms(book)) for book in found.filter(tenant=tenant_id)]

    def offer(self, meter: str, window: dt.datetime) -> Offer | None:
        """The tenant's terms and the list's; None: the list does not price the meter at that hour."""
        listed = self._at(self._list, meter, window)
        if listed is None:
            return None
        agreed = self._at(self._contract, meter, window)
        if agreed is None or (agreed.sku, agreed.unit) != (listed.sku, listed.unit):
            agreed = listed
        return agreed, listed

    def books(self) -> list[PriceBook]:
        return [book for _, book, _ in (*self._list, *self._contract)]

    @property
    def currency(self) -> str:
        """Empty where nothing is published."""
        books = self.books()
        return books[0].currency if books else ""

    @staticmethod
    def _at(
        books: Iterable[tuple[dt.datetime, PriceBook, dict[str, Terms]]], meter: str, window: dt.datetime
    ) -> Terms | None:
        held: dict[str, Terms] = {}
        for valid_from, _, found in books:
            if valid_from <= window:
                held = found
        return held.get(meter)


def _terms(book: PriceBook) -> dict[str, Terms]:
    return {
        price.meter: terms(
            book.pk, price.sku, price.unit, UNITS[Meter(price.meter)][price.unit], price.included,
            [(Decimal(start), Decimal(each)) for start, each in price.tiers],
        )
        for price in book.prices.all()
    }  # fmt: skip
