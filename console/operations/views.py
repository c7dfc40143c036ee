"""Operations, how far one is, and its cancellation."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from console.core.errors import Invalid
from console.core.requests import person, tenant_of
from console.operations import selectors, services


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "operations/list.html", {"operations": selectors.operations(tenant_of(request))[:200]})


@require_GET
def one(request: HttpRequest, id: str) -> HttpResponse:
    return render(request, "operations/_operation.html", {"operation": selectors.operation(person(request).user, id)})


@require_POST
def cancel(request: HttpRequest, id: str) -> HttpResponse:
    """Answers a script with nothing, or with the sentence of a refusal (422), and a plain form with the page that shows it."""
    actor = person(request).user
    operation = selectors.operation(actor, id)
    scripted = bool(request.headers.get("HX-Request"))
    try:
        services.cancel(operation, actor=actor)
    except Invalid as refused:
        if scripted:
            return HttpResponse(refused.message, status=422, content_type="text/plain; charset=utf-8")
        messages.error(request, refused.message)
    if scripted:
        return HttpResponse(status=204)
    if operation.container_id:
        return redirect("workloads:container", id=operation.container_id)
    return redirect("operations:list")
