from __future__ import annotations

from django.urls import path

from console.catalog.views import pages

app_name = "catalog"
urlpatterns = [
    path("", pages.index, name="list"),
    path("launch/", pages.launch, name="launch"),
    path("launch/check/<str:field>/", pages.check, name="check"),
    path("card/<str:key>/", pages.card, name="card"),
    path("build/<slug:slug>/", pages.build, name="build"),
    path("icons/<slug:slug>.svg", pages.icon, name="icon"),
    path("registries/", pages.registries, name="registries"),
    path("registries/<str:id>/remove/", pages.remove_registry, name="remove-registry"),
    path("repositories/add/", pages.add_repository, name="add-repository"),
    path("repositories/<str:id>/remove/", pages.remove_repository, name="remove-repository"),
]
