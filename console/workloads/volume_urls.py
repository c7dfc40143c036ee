from __future__ import annotations

from django.urls import path

from console.workloads.views import belongings

app_name = "volumes"
urlpatterns = [
    path("", belongings.volumes, name="list"),
    path("create/", belongings.create_volume, name="create"),
    path("<str:id>/remove/", belongings.remove_volume, name="remove"),
]
