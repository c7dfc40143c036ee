"""Operations, and how far one is."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from console.core.requests import person, tenant_of
from console.operations import selectors


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "operations/list.html", {"operations": selectors.operations(tenant_of(request))[:200]})


@require_GET
def one(request: HttpRequest, id: str) -> HttpResponse:
    return render(request, "operations/_operation.html", {"operation": selectors.operation(person(request).user, id)})
