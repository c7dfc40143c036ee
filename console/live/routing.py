"""WebSocket doors."""

from __future__ import annotations

from django.urls import path

from console.live.consumers.pages import ContainerConsumer, NodeConsumer, TenantConsumer
from console.live.consumers.streams import LogConsumer, TerminalConsumer

websocket_urlpatterns = [
    path("ws/tenant/<str:tenant>/", TenantConsumer.as_asgi()),
    path("ws/containers/<str:container>/", ContainerConsumer.as_asgi()),
    path("ws/containers/<str:container>/logs/", LogConsumer.as_asgi()),
    path("ws/containers/<str:container>/terminal/", TerminalConsumer.as_asgi()),
    path("ws/node/", NodeConsumer.as_asgi()),
]
