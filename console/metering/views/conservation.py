"""The metering error of each hour of a day, of the person's tenant; for admins of every tenant's day."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from console.metering.selectors.conservation import by_tenant, conservation
from console.metering.spans import DAY, day_of, moment
from console.metering.views.scope import scope


@require_GET
def page(request: HttpRequest, *, everybody: bool) -> HttpResponse:
    """``?day=2026-11-25``, UTC; else today."""
    whose = scope(request, everybody=everybody)
    today = day_of(timezone.now())
    day = day_of(moment("day", request.GET["day"])) if request.GET.get("day") else today
    hours = conservation(whose.tenant, day, day + DAY)
    context = {
        "scope": whose,
        "day": day,
        "next": day + DAY,
        "before": whose.url("metering-error", day=f"{day - DAY:%Y-%m-%d}"),
        "after": whose.url("metering-error", day=f"{day + DAY:%Y-%m-%d}") if day < today else "",
        "days": by_tenant(hours),
        "records": whose.url("records"),
    }
    return render(request, "metering/conservation.html", context)
