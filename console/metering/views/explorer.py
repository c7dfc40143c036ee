"""The usage explorer: what was used or spent, by container, image, meter, label and tenant, from a day's hours to a year's months."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from console.accounts.models import Tenant
from console.core.templatetags.metering import meter as meter_name
from console.core.templatetags.metering import money
from console.metering.models import Meter
from console.metering.months import month_of
from console.metering.selectors import labels
from console.metering.selectors.breakdown import (
    COST,
    KEYS,
    TOP,
    Asked,
    Breakdown,
    By,
    Part,
    Step,
    after,
    breakdown,
    span_before,
)
from console.metering.selectors.idle import Idle, idle, looked_at
from console.metering.selectors.labels import Label
from console.metering.selectors.prices import Prices
from console.metering.spans import DAY, Span, day_of, moment
from console.metering.splitting import HOUR, hour_of
from console.metering.views.scope import Scope, scope
from console.workloads.models import Container, Volume

MONTHS = 12
ROWS = 50
MOST_LABELS = 8
"""Of which there is a button; by another one asks in the address."""
BY_LABEL = "label:"
LABELS: dict[Step, str] = {"hour": "%H:00", "day": "%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Range:
    name: str
    step: Step
    span: Span


def _range(name: str, to: str, now: dt.datetime) -> Range:
    """The last 24 hours, 7 or 31 days or 12 months up to ``to`` or to now.  Raises Invalid."""
    end = moment("to", to) if to else now
    if name == "year":
        last = month_of(end)[1] if not to else month_of(end - HOUR)[1]
        first = last
        for _number in range(MONTHS):
            first = month_of(first - DAY)[0]
        return Range(name, "month", Span(first, last))
    if name in {"week", "month"}:
        last = day_of(end - HOUR) + DAY if to else day_of(end) + DAY
        return Range(name, "day", Span(last - DAY * (7 if name == "week" else 31), last))
    last = hour_of(end) if to else hour_of(end) + HOUR
    return Range("day", "hour", Span(last - DAY, last))


@dataclass(frozen=True, slots=True)
class Row:
    """A part as the table shows it; ``number`` is its colour in the chart."""

    key: str
    number: int
    label: str
    link: str
    amount: str
    before: str
    change: int | None
    """In percent of before; None: there was nothing."""
    share: int
    records: str
    before_records: str


@require_GET
def page(request: HttpRequest, *, everybody: bool) -> HttpResponse:
    """``?range=day|week|month|year&by=…&what=cost|<meter>&to=…&with=name=value``; what makes no sense is as if it were not there.

    ``by`` is one of :data:`KEYS`, or ``label:name``; ``with`` is a label that the rest is left out without.
    """
    whose, now = scope(request, everybody=everybody), timezone.now()
    chosen = _range(request.GET.get("range", ""), request.GET.get("to", ""), now)
    prices = Prices(whose.tenant.pk if whose.tenant else "")
    asked = _asked(request, whose, chosen, priced=bool(prices.currency))
    found = breakdown(asked)
    names = _names(asked, found)
    rows = [
        _row(number, part, asked, found, names, whose, prices.currency)
        for number, part in enumerate(found.parts[:ROWS], 1)
    ]
    query = {"range": chosen.name, "by": _by(asked), "what": asked.what, "with": str(asked.only or "")}
    at = {"to": request.GET.get("to", "")}  # who looks at an earlier time stays there
    known = labels.names(whose.tenant)
    days = Span(day_of(chosen.span.start), day_of(chosen.span.end - HOUR) + DAY)
    context = {
        "scope": whose, "asked": asked, "range": chosen, "rows": rows, "left": len(found.parts) - len(rows),
        "total": _shown(found.total, found, prices.currency), "before": _shown(found.before, found, prices.currency),
        "total_records": _records(asked, whose, asked.span), "before_records": _records(asked, whose, span_before(asked)),
        "change": _change(found.total, found.before), "chart": _chart(found, rows, chosen.step, prices.currency),
        "buckets": _buckets(found, asked, whose, prices.currency), "choices": _choices(query | at, whose, known, everybody=everybody), "by": _by(asked), "labels": known,
        **at, "kept": urlencode({"range": chosen.name, "what": asked.what} | at),
        "earlier": whose.url("usage", **query, to=f"{chosen.span.start:%Y-%m-%dT%H:00}"),
        "later": whose.url("usage", **query, to=_to(chosen, now)) if chosen.span.end <= now else "",
        "currency": prices.currency, "idle": _idle(whose, days),
        "start": f"{month_of(now)[0]:%Y-%m-%d}", "end": f"{now + DAY:%Y-%m-%d}",
    }  # fmt: skip
    return render(request, "metering/explorer.html", context)


def _to(chosen: Range, now: dt.datetime) -> str:
    """The end of the range behind this one; empty for the one that now is in."""
    following = chosen.span.end + (chosen.span.end - chosen.span.start)
    if chosen.step == "month":  # years are not all as long
        following = chosen.span.end
        for _number in range(MONTHS):
            following = month_of(following)[1]
    return "" if following > now else f"{following:%Y-%m-%dT%H:00}"


def _asked(request: HttpRequest, whose: Scope, chosen: Range, *, priced: bool) -> Asked:
    what = request.GET.get("what", "")
    if what not in {COST, *Meter.values}:
        what = COST if priced else str(Meter.CPU)
    by: By = next((one for one in KEYS if one == request.GET.get("by")), "container")
    label, only = "", Label.told(request.GET.get("with", ""))
    if request.GET.get("by", "").startswith(BY_LABEL):
        by, label = "label", request.GET["by"].removeprefix(BY_LABEL)
    if (by == "meter" and what != COST) or (by == "tenant" and whose.tenant is not None):
        by = "container"
    return Asked(whose.tenant, chosen.span, chosen.step, by, what, label=label, only=only)


def _by(asked: Asked) -> str:
    return f"{BY_LABEL}{asked.label}" if asked.by == "label" else asked.by


def _names(asked: Asked, found: Breakdown) -> dict[str, str]:
    keys = [part.key for part in found.parts[:ROWS]]
    if asked.by == "container":
        return {
            pk: name
            for model in (Container, Volume)
            for pk, name in model.objects.filter(pk__in=keys).values_list("pk", "name")
        }
    if asked.by == "tenant":
        return dict(Tenant.objects.filter(pk__in=keys).values_list("pk", "name"))
    return {key: meter_name(key) for key in keys} if asked.by == "meter" else {}


def _row(
    number: int, part: Part, asked: Asked, found: Breakdown, names: dict[str, str], whose: Scope, currency: str
) -> Row:
    of_part = {str(asked.by): part.key}
    if asked.by == "label":
        of_part = {"with": f"{asked.label}={part.key}", "also": str(asked.only or "")}
    if asked.what == COST and asked.by == "image" and not part.key:
        of_part = {"meter": str(Meter.VOLUME_SIZE)}  # what has no image is a volume, which has no other meter
    link = "workloads:container" if asked.by == "container" and part.key.startswith("c") else ""
    return Row(
        part.key, min(number, TOP + 1), names.get(part.key) or part.key or _("none"), link,
        _shown(part.total, found, currency), _shown(part.before, found, currency), _change(part.total, part.before),
        _share(part.total, found.total), _records(asked, whose, asked.span, **of_part),
        _records(asked, whose, span_before(asked), **of_part),
    )  # fmt: skip


def _records(asked: Asked, whose: Scope, span: Span, **more: str) -> str:
    meter = "" if asked.what == COST else asked.what
    edges = {"from": f"{span.start:%Y-%m-%dT%H:00}", "to": f"{span.end:%Y-%m-%dT%H:00}"}
    query = {**edges, "meter": meter, "with": str(asked.only or ""), **more}
    return whose.url("records", **query)


def _idle(whose: Scope, days: Span) -> list[dict[str, Any]]:
    """Each figure with its records."""
    span = looked_at(days)
    edges = {"from": f"{span.start:%Y-%m-%d}", "to": f"{span.end:%Y-%m-%d}"}

    def records(one: Idle, meter: str = "") -> str:
        return whose.url("records", container=one.container.pk, meter=meter, **edges)

    return [
        {"container": one.container, "parts": [(part, records(one, part.of_use)) for part in one.parts],
         "unused_cost": one.unused_cost, "records": records(one)}
        for one in idle(whose.tenant, days)
    ]  # fmt: skip


def _shown(amount: int, found: Breakdown, currency: str) -> str:
    shown = found.shown(amount)
    return f"{shown:,.3f} {found.unit}" if found.unit else money(shown, currency)


def _share(part: int, whole: int) -> int:
    """In percent, to the nearest."""
    return round(Decimal(part) / whole * 100) if whole > 0 else 0


def _change(now: int, before: int) -> int | None:
    return round((Decimal(now) / before - 1) * 100) if before > 0 else None


def _buckets(found: Breakdown, asked: Asked, whose: Scope, currency: str) -> list[dict[str, str]]:
    drawn = [*found.parts[:TOP], *([found.others] if found.others else [])]
    shown = []
    for number, at in enumerate(found.buckets):
        amount = sum(part.amounts[number] for part in drawn)
        of = Span(max(at, asked.span.start), min(after(at, asked.step), asked.span.end))
        shown.append(
            {"at": at.strftime("%Y-%m-%d %H:00" if asked.step == "hour" else "%Y-%m-%d" if asked.step == "day" else "%Y-%m"),
             "amount": _shown(amount, found, currency), "records": _records(asked, whose, of)}
        )  # fmt: skip
    return shown


def _chart(found: Breakdown, rows: list[Row], step: Step, currency: str) -> dict[str, Any]:
    """For static/js/stack.js: what a person sees, so its figures are rounded."""
    drawn = [(row.label, part) for row, part in zip(rows, found.parts[:TOP], strict=False)]
    if found.others is not None:
        drawn.append((_("everything else"), found.others))
    return {
        "labels": [at.strftime(LABELS[step]) for at in found.buckets],
        "unit": found.unit or currency,
        "series": [
            {"label": label, "values": [float(found.shown(amount)) for amount in part.amounts]} for label, part in drawn
        ],
    }


def _choices(
    query: dict[str, str], whose: Scope, known: list[str], *, everybody: bool
) -> dict[str, list[tuple[str, str, str]]]:
    """Of each control: value, what it is called, and where it leads."""

    def links(name: str, named: dict[str, str]) -> list[tuple[str, str, str]]:
        return [(value, label, whose.url("usage", **{**query, name: value})) for value, label in named.items()]

    ranges = {"day": _("Day"), "week": _("Week"), "month": _("Month"), "year": _("Year")}
    keys = {"container": _("Container"), "image": _("Image")}
    if query["what"] == COST:
        keys["meter"] = _("Meter")
    if everybody and whose.tenant is None:
        keys["tenant"] = _("Tenant")
    keys |= {f"{BY_LABEL}{name}": name for name in known[:MOST_LABELS]}
    return {"range": links("range", ranges), "by": links("by", keys),
            "what": links("what", {COST: _("Cost"), **{str(one): meter_name(one) for one in Meter}})}  # fmt: skip
