"""Of every request and answer: scripts only from our own files, no text that cannot be stored, and a page wherever a browser asks for one."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.urls import Resolver404, resolve
from django.utils.translation import gettext as _

from console.core.requests import wants_a_page

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


def page_of_a_form(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A mistake is told at the address that the form was sent to.  Whoever asks for that address as a page, by a reload, another language or
    a sign-in in between, gets the page above it: browsers have only an error of their own for 405.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        asked = request.method == "GET" and wants_a_page(request)
        return HttpResponseRedirect(_above(request.path)) if asked and response.status_code == 405 else response

    return middleware


def _above(path: str) -> str:
    while path != "/":
        path = path.rstrip("/").rpartition("/")[0] + "/"
        try:
            resolve(path)
        except Resolver404:
            continue
        break
    return path
