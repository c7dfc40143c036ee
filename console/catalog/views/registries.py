"""The page of registries and of the catalog entries made from them; a form that is refused comes back as it was typed."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from console.accounts.models import Role
from console.catalog import selectors, services
from console.core.errors import Invalid
from console.core.requests import may, person, tenant_of


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return _page(request)


def _page(request: HttpRequest, form: str = "", refused: Invalid | None = None) -> HttpResponse:
    """``form`` is the one that was refused: ``registry``, ``repository``, or a registry's id."""
    tenant = tenant_of(request)
    context = {
        "registries": selectors.registries(tenant), "repositories": selectors.repositories(tenant),
        "form": form, "data": request.POST, "may_own": may(request, Role.OWNER),
        "errors": {refused.field: refused.message} if refused else {},
    }  # fmt: skip
    return render(request, "catalog/registries.html", context, status=422 if refused else 200)


def _done(request: HttpRequest, form: str, deed: Callable[[], object], said: str) -> HttpResponse:
    try:
        deed()
    except Invalid as refused:
        return _page(request, form, refused)
    messages.success(request, said)
    return redirect("catalog:registries")


@require_POST
def add(request: HttpRequest) -> HttpResponse:
    data = request.POST

    def deed() -> None:
        services.add_registry(
            tenant=tenant_of(request), actor=person(request).user, host=data.get("host", "").strip(),
            name=data.get("name", "").strip(), username=data.get("username", "").strip(),
            password=data.get("password", ""), insecure="insecure" in data,
        )  # fmt: skip

    return _done(request, "registry", deed, _("The registry was added."))


@require_POST
def credentials(request: HttpRequest, id: str) -> HttpResponse:
    registry, data = selectors.registry(tenant_of(request), id), request.POST

    def deed() -> None:
        services.change_credentials(
            registry=registry, actor=person(request).user, username=data.get("username", "").strip(),
            password=data.get("password", ""),
        )  # fmt: skip

    return _done(request, registry.id, deed, _("The credentials were changed."))


@require_POST
def remove(request: HttpRequest, id: str) -> HttpResponse:
    services.remove_registry(registry=selectors.registry(tenant_of(request), id), actor=person(request).user)
    messages.success(request, _("The registry was removed."))
    return redirect("catalog:registries")


@require_POST
def add_repository(request: HttpRequest) -> HttpResponse:
    tenant, data = tenant_of(request), request.POST

    def deed() -> None:
        services.add_repository(
            tenant=tenant, actor=person(request).user,
            registry=selectors.registry(tenant, data["registry"]) if data.get("registry") else None,
            name=data.get("name", "").strip(), title=data.get("title", ""),
            tag=data.get("tag", "").strip() or "latest", port=_port(data.get("port", "").strip()),
            description=data.get("description", "").strip(),
        )  # fmt: skip

    return _done(request, "repository", deed, _("The entry was added to the catalog."))


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise Invalid("port", _("Ports are whole numbers from 1 to 65535."))
    return int(text[:9])


@require_POST
def remove_repository(request: HttpRequest, id: str) -> HttpResponse:
    repository = get_object_or_404(selectors.repositories(tenant_of(request)), pk=id)
    services.remove_repository(repository=repository, actor=person(request).user)
    messages.success(request, _("The entry was removed from the catalog."))
    return redirect("catalog:registries")
