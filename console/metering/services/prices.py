"""Price books: drafted, then published, and from then on never changed."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal, DecimalException
from itertools import pairwise
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from console.accounts.models import Tenant, User
from console.accounts.services import audit
from console.core.errors import Invalid, NotAllowed
from console.metering.currencies import DIGITS
from console.metering.models import Meter, Period, Price, PriceBook
from console.metering.models.decimals import plain
from console.metering.rating import whole
from console.metering.splitting import hour_of
from console.metering.units import UNITS

T = TypeVar("T")
R = TypeVar("R")
MOST_DIGITS = 12
"""Behind the point of a price, and before it."""


@dataclass(frozen=True, slots=True)
class PriceDraft:
    """``tiers``: (from so many units beyond the included, price of one).  Texts, as a person wrote them."""

    sku: str
    meter: str
    unit: str
    tiers: tuple[tuple[str, str], ...]
    included: str = "0"


@dataclass(frozen=True, slots=True)
class BookDraft:
    currency: str
    valid_from: dt.datetime
    prices: tuple[PriceDraft, ...] = field(default=())
    note: str = ""


@transaction.atomic
def draft(book: BookDraft, tenant: Tenant | None = None) -> PriceBook:
    """The list's next version or, of ``tenant``, its contract's.  Raises Invalid on the field that is wrong."""
    if book.currency not in DIGITS:
        raise Invalid("currency", _("Give a currency by its three letters of ISO 4217, such as EUR."))
    if book.valid_from.tzinfo is None or hour_of(book.valid_from) != book.valid_from:
        raise Invalid("valid_from", _("Prices hold by the hour: choose a full hour, with its time zone."))
    if not book.prices:
        raise Invalid("prices", _("A price book needs at least one price."))
    prices = [told(number, one.sku, _price, one) for number, one in enumerate(book.prices, 1)]
    for name in ("sku", "meter"):
        if len({getattr(price, name) for price in prices}) < len(prices):
            raise Invalid("prices", _("Each SKU and each meter has one price."))
    made = _next_version(book, tenant)
    for price in prices:
        price.book = made
    Price.objects.bulk_create(prices)
    return made


def _next_version(book: BookDraft, tenant: Tenant | None) -> PriceBook:
    """Whoever takes the number in this moment is waited for, and has it."""
    versions = PriceBook.objects.filter(tenant=tenant)
    while True:
        number = (versions.aggregate(last=Max("version"))["last"] or 0) + 1
        try:
            with transaction.atomic():
                return versions.create(
                    tenant=tenant, version=number, currency=book.currency, valid_from=book.valid_from, note=book.note
                )
        except IntegrityError:
            if not versions.filter(version__gte=number).exists():
                raise


def told(number: int, sku: str, work: Callable[[T], R], one: T) -> R:
    """What ``work`` refuses says in which price it is."""
    try:
        return work(one)
    except Invalid as refused:
        refused.hint = refused.hint or _("It is in price %(number)d, %(sku)s.") % {"number": number, "sku": sku or "?"}
        raise


@transaction.atomic
def publish(book_id: int, *, actor: User | None = None) -> PriceBook:
    """From now on it counts and cannot be changed.  Published already: as it is.  ``actor``: by hand, for the audit log."""
    _lock_all()
    book = PriceBook.objects.get(pk=book_id)
    if book.published_at is not None:
        return book
    _check_time(book)
    _check_skus(book)
    _check_list(book)
    book.published_at = timezone.now()
    book.sha256 = hashlib.sha256(canonical(book).encode()).hexdigest()
    book.save(update_fields=["published_at", "sha256"])
    if actor is not None:
        audit("prices.publish", actor=actor, tenant=book.tenant, target=book.called)
    return book


def _lock_all() -> None:
    """What is published fits all that was published before: whoever publishes in this moment is waited for."""
    list(PriceBook.objects.select_for_update(no_key=True).order_by("pk").values_list("pk"))


@transaction.atomic
def discard(book_id: int) -> None:
    """A draft.  Raises NotAllowed for a published book."""
    book = PriceBook.objects.select_for_update().get(pk=book_id)
    if book.published_at is not None:
        raise NotAllowed(_("A published price book cannot be changed. Publish a new version instead."))
    book.prices.all().delete()
    book.delete()


def canonical(book: PriceBook) -> str:
    """One text for one book: what its hash is of, and what is exported."""
    return json.dumps(as_data(book), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def as_data(book: PriceBook) -> dict[str, Any]:
    return {
        "tenant": book.tenant_id,
        "version": book.version,
        "currency": book.currency,
        "valid_from": book.valid_from.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "prices": [
            {
                "sku": price.sku,
                "meter": price.meter,
                "unit": price.unit,
                "base_units": UNITS[Meter(price.meter)][price.unit],
                "included": plain(price.included),
                "tiers": price.tiers,
            }
            for price in book.prices.order_by("sku")
        ],
    }


def _price(one: PriceDraft) -> Price:
    if not one.sku or len(one.sku) > 40 or not one.sku.replace("-", "").isalnum() or not one.sku.isascii():
        raise Invalid("sku", _("A SKU is 1 to 40 letters, digits and hyphens."))
    if one.meter not in Meter.values:
        raise Invalid("meter", _("There is no meter called %(name)s.") % {"name": one.meter})
    units = UNITS[Meter(one.meter)]
    if one.unit not in units:
        raise Invalid("unit", _("The unit of this meter is one of %(units)s.") % {"units": ", ".join(units)})
    included = _amount("included", one.included)
    tiers = [(_amount("tiers", start), _amount("tiers", price)) for start, price in one.tiers]
    starts = [start for start, _price_of in tiers]
    if not starts or starts[0] != 0 or any(later <= sooner for sooner, later in pairwise(starts)):
        raise Invalid("tiers", _("The first tier begins at 0, and each later one further up."))
    for name, amounts in (("included", [included]), ("tiers", starts)):
        _check_whole(name, amounts, units[one.unit])
    return Price(
        sku=one.sku,
        meter=one.meter,
        unit=one.unit,
        included=included,
        tiers=[[plain(start), plain(price)] for start, price in tiers],
    )


def _amount(name: str, text: str) -> Decimal:
    try:
        found = Decimal(text)
    except DecimalException:
        raise Invalid(name, _("Write a decimal number with a point, such as 0.0000115.")) from None
    if not found.is_finite() or found < 0 or found >= 10**MOST_DIGITS or found != round(found, MOST_DIGITS):
        raise Invalid(name, _("Amounts are not negative and have at most 12 digits before and behind the point."))
    return found


def _check_whole(name: str, amounts: Iterable[Decimal], size: int) -> None:
    for amount in amounts:
        try:
            whole(amount, size)
        except DecimalException:
            raise Invalid(name, _("This is not a whole number of what the meter counts: give fewer digits.")) from None


def _check_time(book: PriceBook) -> None:
    """No month begins to be closed until the transaction ends: its bill would be made without the book, and its evidence name it."""
    periods = Period.objects.all() if book.tenant_id is None else Period.objects.filter(tenant=book.tenant_id)
    still_open = periods.filter(state=Period.State.OPEN, ends_at__gt=book.valid_from)
    list(still_open.select_for_update(no_key=True).order_by("tenant", "starts_at").values_list("pk"))
    closed = periods.exclude(state=Period.State.OPEN)
    last = closed.aggregate(last=Max("ends_at"))["last"]
    if last is not None and book.valid_from < last:
        raise Invalid(
            "valid_from",
            _("Bills until %(end)s are closed: choose that or a later time.") % {"end": f"{last:%Y-%m-%dT%H:%MZ}"},
        )


def _check_skus(book: PriceBook) -> None:
    """A month's quantity is counted up by SKU, over all books: of one meter alone."""
    meters = dict(book.prices.values_list("sku", "meter"))
    known = (
        Price.objects.filter(book__published_at__isnull=False, sku__in=meters).values_list("sku", "meter").distinct()
    )
    for sku, meter in known.order_by("sku"):
        if meters[sku] != meter:
            raise Invalid(
                "prices",
                _("%(sku)s is the SKU of another meter in a published book: choose a new one.") % {"sku": sku},
            )


def _check_list(book: PriceBook) -> None:
    """One currency everywhere, and a contract prices what the list has, in the same unit."""
    published = PriceBook.objects.filter(published_at__isnull=False)
    other = published.exclude(currency=book.currency).first()
    if other is not None:
        raise Invalid(
            "currency", _("Prices are in %(currency)s: one bill has one currency.") % {"currency": other.currency}
        )
    if book.tenant_id is None:
        return
    lists = published.filter(tenant=None, valid_from__lte=book.valid_from).order_by("-valid_from", "-version")
    listed = lists.first()
    known = {} if listed is None else {price.sku: (price.meter, price.unit) for price in listed.prices.all()}
    for price in book.prices.all():
        if known.get(price.sku) != (price.meter, price.unit):
            raise Invalid(
                "prices",
                _("The list in force has no %(sku)s of this meter and unit: a contract prices what is on the list.")
                % {"sku": price.sku},
            )
