"""Metrics for programs."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST

from console.accounts import tokens
from console.core.errors import Missing
from console.live import client
from console.live.exposition import exposition
from console.workloads import selectors

PLAIN = "text/plain; charset=utf-8"


@login_not_required
@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """``Authorization: Bearer <token>`` names the tenant; a session opens nothing here."""
    try:
        tenant = tokens.tenant_of(request.headers.get("Authorization", ""))
    except Missing:
        answer = HttpResponse("A metrics token of a tenant is needed.\n", status=401, content_type=PLAIN)
        answer["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return answer
    try:
        counters = client.counters(tenant)
    except (client.AgentUnavailable, client.AgentRefused) as problem:
        return HttpResponse(f"{problem}\n", status=503, content_type=PLAIN)
    text = exposition(selectors.containers(tenant, state="running"), counters)
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)
