"""Words of the pages on usage and cost: figures with all of their digits, meters, qualities, money."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from django import template
from django.urls import reverse
from django.utils.translation import gettext as _

register = template.Library()
FINE = 6
"""Digits behind the point of an amount that is no invoice's."""


@register.filter
def grouped(value: int | None) -> str:
    """A whole number with its thousands apart, in any language alike, for it is compared digit by digit."""
    return "–" if value is None else f"{value:,}"


@register.filter
def plain(value: Decimal) -> str:
    """With all of its digits and no more."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@register.filter
def stamp(value: dt.datetime | None) -> str:
    """To the microsecond, UTC: where a reading lies."""
    return "–" if value is None else value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


@register.filter
def money(value: Decimal | None, currency: str) -> str:
    """At most six digits behind the point, at least two: what is not invoiced yet is not rounded to what can be paid."""
    if value is None:
        return "–"
    text = f"{value.quantize(Decimal(1).scaleb(-FINE), ROUND_HALF_EVEN):,f}"
    whole, _point, rest = text.partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')} {currency}".strip()


@register.filter
def in_full(value: Decimal, currency: str) -> str:
    """As it is, with its thousands apart: what an invoice is of."""
    return f"{value:,f} {currency}".strip()


@register.filter
def signed(percent: int) -> str:
    return f"{percent:+d}%"


@register.filter
def meter(key: str) -> str:
    return {
        "cpu": _("CPU used"), "cpu_limit": _("CPU reserved"), "memory_used": _("Memory used"),
        "memory_limit": _("Memory reserved"), "block_read": _("Block read"), "block_write": _("Block written"),
        "net_rx": _("Network received"), "net_tx": _("Network sent"), "published_port": _("Published ports"),
        "volume_size": _("Volumes"), "disk_size": _("Disks"),
    }.get(key, key)  # fmt: skip


@register.filter
def quality(key: str) -> str:
    return {
        "exact": _("exact"), "integrated": _("from samples"), "estimated": _("divided by time"), "missing": _("missing"),
        "incomplete": _("incomplete"),
    }.get(key, key)  # fmt: skip


@register.filter
def url_of(scope: Any, name: str) -> str:
    """Of another page of the same scope."""
    return str(scope.url(name))


@register.filter
def records_of(scope: Any, tenant: Any) -> str:
    """Ready for one more parameter: the records of one tenant, for an admin who looks at everybody's, too."""
    return asking(scope.url("records", tenant=tenant.pk) if scope.everybody else scope.url("records"))


@register.filter
def asking(url: str) -> str:
    """Ready for one more parameter, whether it has some already or not."""
    return url + ("&" if "?" in url else "?")


@register.filter
def download_url(scope: Any, month: str) -> str:
    """The folder that an invoice's downloads are in."""
    return reverse("metering:all-invoice" if scope.everybody else "metering:invoice", kwargs={"month": month})


@register.filter
def of_line(records: str, line: Any) -> str:
    """The records behind a line of an invoice: of its container and meter, in its hour."""
    starts = line.window.astimezone(dt.UTC)
    ends = starts + dt.timedelta(hours=1)
    of = f"container={line.resource.identity}&meter={line.meter}"
    return f"{asking(records)}{of}&from={starts:%Y-%m-%dT%H:00}&to={ends:%Y-%m-%dT%H:00}"
