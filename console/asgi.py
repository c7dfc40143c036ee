"""HTTP by Django's synchronous handler in threads, WebSockets by :mod:`console.live`.

Every view is synchronous and talks to a database, so the asynchronous handler would only add a
hand-over per middleware and run all of them in one thread.  A thread is taken once a request's
body has arrived whole, so that a slow sender holds none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application

if TYPE_CHECKING:
    from a2wsgi.wsgi_typing import WSGIApp

    from console.core.bodies import Application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
django_application = cast("Application", WSGIMiddleware(cast("WSGIApp", get_wsgi_application()), workers=32))

from channels.auth import AuthMiddlewareStack  # noqa: E402 -- after Django is set up
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402

from console.core.bodies import WholeBody  # noqa: E402
from console.live.origin import SameOrigin  # noqa: E402
from console.live.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": WholeBody(django_application, settings.DATA_UPLOAD_MAX_MEMORY_SIZE),
        "websocket": AllowedHostsOriginValidator(SameOrigin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))),
    }
)
