"""What is changed of a container that is there: its limits, its name and its networks.  The forms are on its page, under the tab ``change``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from console.accounts.models import Role
from console.accounts.services import require
from console.core.errors import Full, Invalid
from console.core.requests import form_key, person
from console.workloads import selectors, services
from console.workloads.services import LimitsRequest, NetworkRequest
from console.workloads.services.addresses import FIELDS
from console.workloads.views import containers

KIB = 2**10


@require_POST
def limits(request: HttpRequest, id: str) -> HttpResponse:
    container, actor = selectors.container(person(request).user, id), person(request).user
    require(actor, container.tenant, Role.MEMBER)
    try:
        asked = LimitsRequest(
            memory_bytes=container.memory_bytes if _as_shown(request, "memory") else (
                round(_number(request, "memory", _("Write a number of MiB.")) * KIB) * KIB
            ),
            cpu_millis=container.cpu_millis if _as_shown(request, "cpu") else (
                round(_number(request, "cpu", _("Write a number of vCPU, such as 0.5.")) * 1000)
            ),
            pids=container.pids if _as_shown(request, "pids") else _whole(request, "pids", _("Write a whole number.")),
        )  # fmt: skip
        services.update_limits(container=container, actor=actor, limits=asked, request_key=form_key(request, "limits"))
    except (Invalid, Full) as refused:
        return _again(request, id, refused, "limits")
    return redirect("workloads:container", id=id)


@require_POST
def rename(request: HttpRequest, id: str) -> HttpResponse:
    container, actor = selectors.container(person(request).user, id), person(request).user
    try:
        services.rename(
            container=container, actor=actor, name=request.POST.get("name", "").strip(),
            request_key=form_key(request, "rename"),
        )  # fmt: skip
    except Invalid as refused:
        return _again(request, id, refused, "rename")
    return redirect("workloads:container", id=id)


@require_POST
def connect(request: HttpRequest, id: str) -> HttpResponse:
    container, actor = selectors.container(person(request).user, id), person(request).user
    network, aliases, *addresses = (request.POST.get(name, "") for name in ("network", "aliases", *FIELDS))
    asked = NetworkRequest(network, tuple(aliases.split()), *(one.strip() for one in addresses))
    try:
        services.connect(container=container, actor=actor, asked=asked, request_key=form_key(request, "connect"))
    except Invalid as refused:
        return _again(request, id, refused, "connect")
    return redirect("workloads:container", id=id)


@require_POST
def disconnect(request: HttpRequest, id: str) -> HttpResponse:
    container, actor = selectors.container(person(request).user, id), person(request).user
    network = request.POST.get("leave", "")
    try:
        services.disconnect(
            container=container, actor=actor, network=network, request_key=form_key(request, f"disconnect|{network}")
        )
    except Invalid as refused:
        return _again(request, id, Invalid("disconnect", refused.message), "disconnect")
    return redirect("workloads:container", id=id)


def _as_shown(request: HttpRequest, field: str) -> bool:
    """Nobody has changed it on this page, so it stays what it is: somebody else may have, meanwhile."""
    return request.POST.get(field) is not None and request.POST[field] == request.POST.get(f"shown_{field}")


def _number(request: HttpRequest, field: str, problem: str) -> float:
    try:
        value = float(request.POST.get(field, ""))
    except ValueError:
        value = -1
    if not 0 <= value < 2**40:
        raise Invalid(field, problem)
    return value


def _whole(request: HttpRequest, field: str, problem: str) -> int:
    value = _number(request, field, problem)
    if value % 1:
        raise Invalid(field, problem)
    return int(value)


def _again(request: HttpRequest, id: str, refused: Invalid | Full, form: str) -> HttpResponse:
    """The page with the form as it was typed, and the sentence beside its field."""
    context = containers.page_of(request, id, "change")
    errors = {refused.field or form: refused.message}
    key = request.POST.get("request_key") or context["request_key"]
    typed = {**context["typed"], **request.POST.dict()}
    return render(
        request,
        "workloads/container.html",
        {**context, "errors": errors, "typed": typed, "request_key": key},
        status=422,
    )
