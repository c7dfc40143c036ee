"""Price books as admins look at them."""

from __future__ import annotations

from django.db.models import Prefetch

from console.core.errors import Missing
from console.metering.models import Price, PriceBook


def books() -> list[PriceBook]:
    """The list first, then contracts by tenant; of each the newest first."""
    found = PriceBook.objects.select_related("tenant").prefetch_related(_prices())
    return sorted(
        found, key=lambda book: (book.tenant is not None, book.tenant.name if book.tenant else "", -book.version)
    )


def book(id: int) -> PriceBook:
    """Raises Missing."""
    found = PriceBook.objects.select_related("tenant").prefetch_related(_prices()).filter(pk=id).first()
    if found is None:
        raise Missing
    return found


def _prices() -> Prefetch[str]:
    return Prefetch("prices", Price.objects.order_by("sku"))
