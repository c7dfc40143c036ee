"""A container's processes, which only root on the node can see."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from console.accounts.models import Role
from console.accounts.services import require
from console.core.requests import person
from console.live import client
from console.workloads import selectors


@require_GET
def processes(request: HttpRequest, id: str) -> HttpResponse:
    """Arguments of programs may be passwords, so viewers see none."""
    user = person(request).user
    container = selectors.container(user, id)
    require(user, container.tenant, Role.MEMBER)
    context: dict[str, object] = {"container": container}
    try:
        context["processes"] = client.top(user, container)
    except (client.AgentUnavailable, client.AgentRefused) as problem:
        context["problem"] = str(problem)
    return render(request, "workloads/_processes.html", context)
