"""Every page of the console."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from console.core.views import healthz
from console.live.views import metrics
from console.workloads.views.home import home

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz/", healthz, name="healthz"),
    path("metrics", metrics, name="metrics"),
    path("", home, name="home"),
    path("", include("console.accounts.urls")),
    path("catalog/", include("console.catalog.urls")),
    path("containers/", include("console.workloads.urls")),
    path("volumes/", include("console.workloads.volume_urls")),
    path("networks/", include("console.workloads.network_urls")),
    path("operations/", include("console.operations.urls")),
    path("", include("console.metering.urls")),
]
