"""WebSockets are for pages of this very site.

A browser sends its cookies to every port of a host, and a container's published port is one of them: a page that a container
serves must not open a terminal in the name of whoever looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from channels.security.websocket import WebsocketDenier
from django.conf import settings

from console.core.bodies import Application, Message, Receive, Send

PORTS = {"http": 80, "https": 443}


class SameOrigin:
    """ASGI middleware for WebSockets: the page's host and port are those that the request is for, or a trusted origin's."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if allowed(dict(scope.get("headers", ()))):
            await self._application(scope, receive, send)
        else:
            await WebsocketDenier()(scope, receive, send)


def allowed(headers: Mapping[bytes, bytes]) -> bool:
    origin, host = (headers.get(name, b"").decode("latin-1").lower() for name in (b"origin", b"host"))
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    scheme = origin.partition("://")[0]
    return scheme in PORTS and bool(host) and _place(origin, scheme) == _place(f"{scheme}://{host}", scheme)


def _place(url: str, scheme: str) -> Any:
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or PORTS[scheme]
    except ValueError:
        return object()  # equal to nothing
