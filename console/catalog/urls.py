from __future__ import annotations

from django.urls import path

from console.catalog.views import pages, registries

app_name = "catalog"
urlpatterns = [
    path("", pages.index, name="list"),
    path("launch/", pages.launch, name="launch"),
    path("launch/check/<str:field>/", pages.check, name="check"),
    path("launch/price/", pages.price, name="price"),
    path("card/<str:key>/", pages.card, name="card"),
    path("build/<slug:slug>/", pages.build, name="build"),
    path("icons/<slug:slug>.svg", pages.icon, name="icon"),
    path("registries/", registries.index, name="registries"),
    path("registries/add/", registries.add, name="add-registry"),
    path("registries/<str:id>/credentials/", registries.credentials, name="credentials"),
    path("registries/<str:id>/remove/", registries.remove, name="remove-registry"),
    path("repositories/add/", registries.add_repository, name="add-repository"),
    path("repositories/<str:id>/remove/", registries.remove_repository, name="remove-repository"),
]
