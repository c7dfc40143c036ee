"""The list of containers, a container's page and what can be done with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from console.accounts.models import Role
from console.accounts.selectors import role_in
from console.accounts.services import audit
from console.core.errors import Full, Invalid
from console.core.requests import form_key, may, person, tenant_of
from console.live import client
from console.metering.selectors import spending
from console.workloads import selectors, services
from console.workloads.models import Container
from console.workloads.services.spec import health_check

OF_MEMBERS = ("processes", "files", "change")
"""Tabs that viewers have not, nor anybody of what was removed."""
PAGE, MOST_ROWS = 100, 1000
AROUND_A_FILE = 4096
"""So many bytes of a request are not the file that it brings."""
MIB = 2**20


def _listing(request: HttpRequest) -> dict[str, object]:
    tenant = tenant_of(request)
    search, state = request.GET.get("search", "").strip(), request.GET.get("state", "")
    count = request.GET.get("count", "")
    size = min(max(PAGE, int(count[:6])), MOST_ROWS) if count.isascii() and count.isdigit() else PAGE
    found = selectors.containers(tenant, search=search, state=state)
    if ids := request.GET.getlist("id")[:PAGE]:
        found = found.filter(pk__in=ids)
    after = request.GET.get("after", "")
    shown = selectors.page(found, size=size, after=after)
    return {
        "containers": shown.containers,
        "more": urlencode({"search": search, "state": state, "after": shown.after}) if shown.after else "",
        "search": search,
        "state": state,
        "states": Container.State.choices[:4],
        "may_operate": may(request, Role.MEMBER),
        "filtered": bool(search or state or after),
    }


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "workloads/list.html", _listing(request))


@require_GET
def rows(request: HttpRequest) -> HttpResponse:
    """The whole table for a search; rows alone for ``id`` (those that changed) and ``after`` (the next page)."""
    part = "_row_set" if {"id", "after"} & set(request.GET) else "_rows"
    return render(request, f"workloads/{part}.html", _listing(request))


def _page(request: HttpRequest, id: str) -> dict[str, Any]:
    user, operation = person(request).user, selectors.last_operation(id)
    container = selectors.container(user, id)
    role = role_in(user, container.tenant)
    return {
        "container": container,
        "operation": operation,
        "may_operate": role is not None and role.includes(Role.MEMBER),
        "request_key": uuid.uuid4().hex,
    }


@require_GET
def status(request: HttpRequest, id: str) -> HttpResponse:
    return render(request, "workloads/_status.html", {**_page(request, id), "alone": True})


@require_GET
def page(request: HttpRequest, id: str) -> HttpResponse:
    return render(request, "workloads/container.html", page_of(request, id, request.GET.get("tab", "overview")))


def page_of(request: HttpRequest, id: str, tab: str) -> dict[str, Any]:
    """What the page shows under a tab; one that there is not, or not for this person, is the overview."""
    context = _page(request, id)
    container = context["container"]
    labels = {
        "overview": _("Overview"), "logs": _("Logs"), "terminal": _("Terminal"), "processes": _("Processes"),
        "files": _("Files"),
        "configuration": _("Configuration"), "change": _("Change"), "events": _("Events"), "isolation": _("Isolation"),
    }  # fmt: skip
    if not context["may_operate"] or container.removed_at:
        labels = {key: label for key, label in labels.items() if key not in OF_MEMBERS}
    context["tab"] = tab if tab in labels else "overview"
    context["tabs"] = list(labels.items())
    if context["tab"] == "configuration":
        context |= _configuration(container)
    if context["tab"] == "change":
        context |= {"typed": _typed(container), **_networks(container)}
    if context["tab"] == "files":
        context["most"] = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        context["most_of_a_file"] = settings.DATA_UPLOAD_MAX_MEMORY_SIZE - AROUND_A_FILE
    if context["tab"] == "events":
        context["events"] = selectors.events(container)[:200]
    return context


def _typed(container: Container) -> dict[str, str]:
    """As the forms show what is."""
    return {
        "memory": f"{container.memory_bytes / MIB:g}", "cpu": f"{container.cpu_millis / 1000:g}", "pids": f"{container.pids}",
        "name": container.name,
    }  # fmt: skip


def _networks(container: Container) -> dict[str, Any]:
    """Those that it is on, and those that it can come onto; where it leads out, and where it would if that place went."""
    places = selectors.places(container)
    out = selectors.way_out(places)
    free = selectors.usable_networks(container.tenant).exclude(pk__in=[one.network_id for one in places])
    return {
        "places": places, "free_networks": free.order_by("name"), "six": any(one.ipv6 for one in free),
        "way_out": out, "next_way_out": selectors.way_out(one for one in places if one != out),
    }  # fmt: skip


def _configuration(container: Container) -> dict[str, Any]:
    return {
        "image": selectors.image(container), "places": selectors.places(container), "check": health_check(container),
        "mounts": container.mounts.select_related("volume"),
    }  # fmt: skip


@require_GET
def events(request: HttpRequest, id: str) -> HttpResponse:
    container = selectors.container(person(request).user, id)
    return render(
        request, "workloads/_events.html", {"events": selectors.events(container)[:200], "container": container}
    )


@require_GET
def configuration(request: HttpRequest, id: str) -> HttpResponse:
    context = _page(request, id)
    return render(request, "workloads/_configuration.html", {**context, **_configuration(context["container"])})


@require_GET
def isolation(request: HttpRequest, id: str) -> HttpResponse:
    """Asks the agent, for only root can see into another user's process."""
    user = person(request).user
    container = selectors.container(user, id)
    context: dict[str, object] = {"container": container}
    try:
        report = client.isolation(user, container)
    except (client.AgentUnavailable, client.AgentRefused) as problem:
        context["problem"] = str(problem)
    else:
        biggest = max((layer["size"] for layer in report["layers"]), default=0) or 1
        for layer in report["layers"]:
            layer["percent"] = max(2, layer["size"] * 100 // biggest)
        context["report"] = report
    return render(request, "workloads/_isolation.html", context)


@require_GET
def cost(request: HttpRequest, id: str) -> HttpResponse:
    """Empty where nothing has a price."""
    container = selectors.container(person(request).user, id)
    found = spending.of_container(container, timezone.now())
    return render(request, "workloads/_cost.html", {"container": container, "cost": found}) if found else HttpResponse()


@require_POST
def act(request: HttpRequest, id: str, verb: str) -> HttpResponse:
    """Answers a script with nothing, or with the sentence of a refusal (422), and a plain form with a page."""
    container = selectors.container(person(request).user, id)
    try:
        services.act(container=container, actor=person(request).user, verb=verb, request_key=form_key(request, verb))
    except (Invalid, Full) as refused:
        if request.headers.get("HX-Request"):
            return HttpResponse(refused.message, status=422, content_type="text/plain; charset=utf-8")
        messages.error(request, refused.message)
    if request.headers.get("HX-Request"):
        return HttpResponse(status=204)
    return redirect("workloads:list") if verb == "remove" else redirect("workloads:container", id=id)


@require_GET
def download_logs(request: HttpRequest, id: str) -> HttpResponse | StreamingHttpResponse:
    """What the node still has of the log, as text."""
    user = person(request).user
    container = selectors.container(user, id)
    try:
        lines = client.log_lines(user, container)
    except (client.AgentUnavailable, client.AgentRefused) as problem:
        return HttpResponse(str(problem), status=503, content_type="text/plain; charset=utf-8")

    audit("container.logs", actor=user, tenant=container.tenant, target=container.id, name=container.name)

    def text() -> Iterator[str]:
        for at, stream, line, *_partial in lines:
            yield f"{at} {stream} {line}\n"

    answer = StreamingHttpResponse(text(), content_type="text/plain; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{container.name}.log"'
    return answer
