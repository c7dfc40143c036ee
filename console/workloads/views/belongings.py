"""The pages of volumes and of networks: the list, and under it the form for a new one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from console.accounts.models import Role
from console.core.errors import Full, Invalid, NotAllowed
from console.core.requests import form_key, may, person, tenant_of
from console.workloads import selectors, services

MIB = 2**20


def mebibytes(field: str, text: str) -> int | None:
    """Of a form; empty: none.  Raises Invalid."""
    if not text.strip():
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**40:
        raise Invalid(field, _("Write a number of MiB, or leave it empty."))
    return round(number * MIB)


@require_GET
def volumes(request: HttpRequest) -> HttpResponse:
    return _volumes_page(request)


@require_GET
def networks(request: HttpRequest) -> HttpResponse:
    return _networks_page(request)


def _volumes_page(request: HttpRequest, refused: Invalid | Full | None = None) -> HttpResponse:
    found = selectors.volumes(tenant_of(request))
    return _page(request, "workloads/volumes.html", refused, volumes=found)


def _networks_page(request: HttpRequest, refused: Invalid | Full | None = None) -> HttpResponse:
    found = selectors.networks(tenant_of(request))
    return _page(request, "workloads/networks.html", refused, networks=found)


def _page(request: HttpRequest, template: str, refused: Invalid | Full | None, **context: object) -> HttpResponse:
    context |= {
        "may_operate": may(request, Role.MEMBER), "data": request.POST if refused else {},
        "request_key": request.POST.get("request_key") or uuid.uuid4().hex,
        "errors": {refused.field: refused.message} if refused else {},
    }  # fmt: skip
    return render(request, template, context, status=422 if refused else 200)


@require_POST
def create_volume(request: HttpRequest) -> HttpResponse:
    _let_in(request)
    data = request.POST
    try:
        services.create_volume(
            tenant=tenant_of(request), actor=person(request).user, name=data.get("name", "").strip(),
            size_bytes=mebibytes("size", data.get("size", "")), request_key=form_key(request, "volume"),
        )  # fmt: skip
    except (Invalid, Full) as refused:
        return _volumes_page(request, refused)
    return redirect("volumes:list")


@require_POST
def create_network(request: HttpRequest) -> HttpResponse:
    _let_in(request)
    data = request.POST
    try:
        services.create_network(
            tenant=tenant_of(request), actor=person(request).user, name=data.get("name", "").strip(),
            internal="internal" in data, ipv6="ipv6" in data, request_key=form_key(request, "network"),
        )  # fmt: skip
    except (Invalid, Full) as refused:
        return _networks_page(request, refused)
    return redirect("networks:list")


def _let_in(request: HttpRequest) -> None:
    """Before a mistake in the form is told."""
    if not may(request, Role.MEMBER):
        raise NotAllowed(_("Your role does not allow this."))


@require_POST
def remove_volume(request: HttpRequest, id: str) -> HttpResponse:
    found = selectors.volume(person(request).user, id)
    return _removed(request, "volumes:list", services.remove_volume, volume=found)


@require_POST
def remove_network(request: HttpRequest, id: str) -> HttpResponse:
    found = selectors.network(person(request).user, id)
    return _removed(request, "networks:list", services.remove_network, network=found)


def _removed(request: HttpRequest, back: str, remove: Callable[..., Any], **what: object) -> HttpResponse:
    """Answers a script with nothing, or with the sentence of a refusal (422), and a plain form with the list."""
    scripted = bool(request.headers.get("HX-Request"))
    try:
        remove(actor=person(request).user, request_key=form_key(request, "remove"), **what)
    except Invalid as refused:
        if scripted:
            return HttpResponse(refused.message, status=422, content_type="text/plain; charset=utf-8")
        messages.error(request, refused.message)
    return HttpResponse(status=204) if scripted else redirect(back)
