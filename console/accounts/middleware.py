"""From where a request comes, and which tenant it acts in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from console.accounts import address, selectors

SESSION_KEY = "tenant"


def known_address(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        with address.acting_from(request.META.get("REMOTE_ADDR", "")):
            return get_response(request)

    return middleware


def current_tenant(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Sets ``request.tenant`` and ``request.role``; the membership is checked again on every request."""

    def middleware(request: HttpRequest) -> HttpResponse:
        target: Any = request
        target.tenant = target.role = None
        user = request.user
        if user.is_authenticated:
            mine = selectors.tenants(user)
            target.tenant = mine.filter(pk=request.session.get(SESSION_KEY, "")).first() or mine.first()
            if target.tenant is not None:
                target.role = selectors.role_in(user, target.tenant)
        return get_response(request)

    return middleware
