from __future__ import annotations

from django.urls import path

from console.workloads.views import belongings

app_name = "networks"
urlpatterns = [
    path("", belongings.networks, name="list"),
    path("create/", belongings.create_network, name="create"),
    path("<str:id>/remove/", belongings.remove_network, name="remove"),
]
