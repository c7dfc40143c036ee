"""From where a request comes, and which tenant it acts in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from console.accounts import address, selectors
from console.core.live import sequence

SESSION_KEY = "tenant"


class SignedIn(LoginRequiredMiddleware):
    """A page asks to sign in; a part of one, which a script asks for, has no room for that.

    The page of a part that is looked at is loaded anew, and asks.  While somebody types, nothing happens until they send it.
    """

    def process_view(
        self,
        request: HttpRequest,
        view_func: Callable[..., HttpResponseBase],
        view_args: tuple[Any],
        view_kwargs: dict[str, Any],
    ) -> HttpResponseBase | None:
        asks = super().process_view(request, view_func, view_args, view_kwargs)
        if asks is None or not request.headers.get("HX-Request"):
            return asks
        return HttpResponse(status=401, headers={"HX-Refresh": "true"} if request.method == "GET" else None)


def known_address(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        with address.acting_from(request.META.get("REMOTE_ADDR", "")):
            return get_response(request)

    return middleware


def current_tenant(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Sets ``request.tenant`` and ``request.role``; the membership is checked again on every request.

    ``request.seen`` is the number of the tenant's last event, taken before anything of the page is: an event that comes until the page is
    live is shown twice, never lost.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        target: Any = request
        target.tenant = target.role = target.seen = None
        user = request.user
        if user.is_authenticated:
            mine = selectors.tenants(user)
            target.tenant = mine.filter(pk=request.session.get(SESSION_KEY, "")).first() or mine.first()
            if target.tenant is not None:
                target.role = selectors.role_in(user, target.tenant)
                target.seen = sequence(target.tenant.pk)
        return get_response(request)

    return middleware
