"""What the month costs so far, for the tenant's home page, which asks for it by itself."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from console.core.requests import tenant_of
from console.metering.selectors import budgets
from console.metering.selectors.spending import spending


@require_GET
def so_far(request: HttpRequest) -> HttpResponse:
    tenant = tenant_of(request)
    found, budget = spending(tenant, timezone.now()), budgets.budget(tenant)
    progress = budgets.Progress(budget, found.so_far, found.forecast) if budget and found else None
    return render(request, "metering/_so_far.html", {"spending": found, "progress": progress})
