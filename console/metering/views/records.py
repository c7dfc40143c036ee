"""The records behind every figure on screen."""

from __future__ import annotations

import datetime as dt

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from console.core.errors import Invalid
from console.metering.models import Meter, Quality
from console.metering.selectors import records
from console.metering.selectors.labels import Label
from console.metering.selectors.records import Wanted
from console.metering.spans import span
from console.metering.views.scope import scope
from console.workloads.models import Container

SIZE = 100


@require_GET
def page(request: HttpRequest, *, everybody: bool) -> HttpResponse:
    """``?from=&to=&meter=&container=&image=&quality=&with=&also=&billed=``, each optional; ``with`` is a label as ``name=value``, ``also``
    another one, ``billed`` the month of an invoice, and ``after`` is the page behind that record.
    """
    whose, asked = scope(request, everybody=everybody), request.GET
    known = {"meter": set(Meter.values), "quality": set(Quality.values)}
    chosen = {name: asked.get(name, "") for name in ("meter", "container", "image", "quality")}
    chosen |= {name: chosen[name] if chosen[name] in values else "" for name, values in known.items()}
    label, also = (Label.told(asked.get(name, "")) for name in ("with", "also"))
    billed = _billed(asked.get("billed", ""))
    context = {
        "scope": whose,
        "meters": Meter.choices,
        "qualities": Quality.choices,
        "container": _container(whose.tenant, chosen["container"]),
    }
    try:
        of = span(asked.get("from", ""), asked.get("to", ""), timezone.now(), usual=dt.timedelta(days=1))
    except Invalid as refused:
        typed = {"query": asked, "wrong": refused.field, "problem": refused.message}
        return render(request, "metering/records.html", context | typed, status=422)
    wanted = Wanted(whose.tenant, of, **chosen, label=label, also=also, billed=billed)
    found = records.page(wanted, size=SIZE, after=asked.get("after", ""))
    query = {"from": f"{of.start:%Y-%m-%dT%H:00}", "to": f"{of.end:%Y-%m-%dT%H:00}", **chosen, "with": str(label or "")}
    query |= {"billed": f"{billed:%Y-%m}"} if billed else {}
    query |= {"also": str(also)} if also else {}
    context |= {
        "query": query,
        "rows": found.rows,
        "more": whose.url("records", **query, after=found.after) if found.after else "",
        "first": not asked.get("after"),
        "totals": [] if asked.get("after") else records.totals(wanted),
    }
    return render(request, "metering/records.html", context)


def _container(tenant: object, id: str) -> Container | None:
    found = Container.objects.filter(pk=id).first() if id else None
    return found if found is not None and (tenant is None or found.tenant == tenant) else None


def _billed(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text, "%Y-%m").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
