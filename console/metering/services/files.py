"""A price book from a file, as ``prices.as_data`` writes one."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.core.errors import Invalid
from console.metering.models import PriceBook
from console.metering.services.prices import BookDraft, PriceDraft, draft, told


def draft_from_json(text: str, tenant: Tenant | None = None) -> PriceBook:
    """``{"currency", "valid_from", "prices": [{"sku", "meter", "unit", "included", "tiers": [["0", "0.00001"]]}]}``.

    Amounts are texts, so that no reader makes floating-point numbers of them.  Raises Invalid on the field that is wrong.
    """
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid("prices", _("This is not JSON.")) from None
    if not isinstance(found, dict):
        raise Invalid("prices", _("A price book is a JSON object."))
    try:
        valid_from = dt.datetime.fromisoformat(_text(found, "valid_from"))
        valid_from.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise Invalid("valid_from", _("Write a time such as 2026-12-01T00:00:00Z.")) from None
    listed = found.get("prices")
    if not isinstance(listed, list):
        raise Invalid("prices", _("A price book needs at least one price."))
    prices = tuple(told(number, str(one.get("sku", "")) if isinstance(one, dict) else "", _price, one)
                   for number, one in enumerate(listed, 1))  # fmt: skip
    note = str(found.get("note", "")).replace("\0", "")[:200]
    return draft(BookDraft(_text(found, "currency"), valid_from, prices, note), tenant)


def _price(found: Any) -> PriceDraft:
    if not isinstance(found, dict):
        raise Invalid("prices", _("Each price is a JSON object."))
    tiers = found.get("tiers")
    if not isinstance(tiers, list) or not all(
        isinstance(tier, list) and len(tier) == 2 and all(isinstance(part, str) for part in tier) for tier in tiers
    ):
        raise Invalid("tiers", _('Tiers are pairs of texts, such as [["0", "0.00001"]].'))
    included = found.get("included", "0")
    if not isinstance(included, str):
        raise Invalid("included", _('Write amounts as texts, such as "0.5".'))
    return PriceDraft(
        _text(found, "sku"),
        _text(found, "meter"),
        _text(found, "unit"),
        tuple((tier[0], tier[1]) for tier in tiers),
        included,
    )


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid(name, _("This is missing, or no text."))
    return value
