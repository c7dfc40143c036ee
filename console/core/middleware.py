"""Of every request and answer: scripts only from our own files, and no text that cannot be stored."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.utils.translation import gettext as _

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'nonce-{nonce}'",
        "style-src 'self'",
        "style-src-elem 'self' 'unsafe-inline'",  # xterm.js makes its <style> elements by script
        "style-src-attr 'unsafe-inline'",  # progress bars, and elements that uPlot and Tabler place
        "connect-src 'self' ws: wss:",
        "img-src 'self' data:",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        # for the import map, the only inline script
        request.csp_nonce = secrets.token_urlsafe(16)  # type: ignore[attr-defined]
        response = get_response(request)
        policy = POLICY.replace("{nonce}", request.csp_nonce)  # type: ignore[attr-defined]
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware


def no_null_characters(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """No text of a form or an address has a place for U+0000, and PostgreSQL stores none."""

    def middleware(request: HttpRequest) -> HttpResponse:
        given = [
            request.path,
            *(text for table in (request.GET, request.POST) for row in table.lists() for text in row[1]),
        ]
        if any("\0" in text for text in given):
            return HttpResponseBadRequest(_("The request has a null character in a text."), content_type="text/plain")
        return get_response(request)

    return middleware
