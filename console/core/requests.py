"""What a view knows of who asks, and how a refusal becomes an answer."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Any, cast

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from console.accounts.models import Role, Tenant, User
from console.core.errors import Missing, NotAllowed, Refused


class PersonRequest(HttpRequest):
    """A request of somebody who is signed in; see the middleware ``current_tenant``."""

    user: User
    tenant: Tenant | None
    role: Role | None
    csp_nonce: str


def person(request: HttpRequest) -> PersonRequest:
    assert not isinstance(request.user, AnonymousUser)
    return cast("PersonRequest", request)


def tenant_of(request: HttpRequest) -> Tenant:
    """The tenant that the person acts in.  Raises Http404 for somebody who is in none."""
    tenant = person(request).tenant
    if tenant is None:
        raise Http404
    return tenant


def may(request: HttpRequest, role: Role) -> bool:
    held = person(request).role
    return held is not None and held.includes(role)


def form_key(request: HttpRequest, what: str) -> str:
    """Of what a form asks for, 64 characters: the same for the same form and ``what``, and for nothing else.  A form without a key is new each time."""
    sent = request.POST.get("request_key") or uuid.uuid4().hex
    return hashlib.sha256(f"{what}|{sent}".encode()).hexdigest()


def wants_a_page(request: HttpRequest) -> bool:
    """A browser that goes there, and no program or part of a page."""
    return "text/html" in request.headers.get("Accept", "")


def _came_from(request: HttpRequest) -> str:
    """The page of ours with the form; empty where that is not known."""
    page = request.headers.get("Referer", "")
    ours = url_has_allowed_host_and_scheme(page, {request.get_host()}) and page != request.build_absolute_uri()
    return page if ours else ""


def refusals(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: a service's Missing is a 404, NotAllowed a 403; both pages say no more than that.

    Any other that a view has no field for is a 422 with its sentence.
    """

    class Refusals:
        def __call__(self, request: HttpRequest) -> HttpResponse:
            return get_response(request)

        @staticmethod
        def process_exception(request: HttpRequest, exception: Exception) -> Any:
            if isinstance(exception, Missing):
                raise Http404 from exception
            if isinstance(exception, NotAllowed):
                raise PermissionDenied(exception.message) from exception
            if isinstance(exception, Refused):
                return render(request, "422.html", {"refused": exception, "back": _came_from(request)}, status=422)
            return None

    return Refusals()
