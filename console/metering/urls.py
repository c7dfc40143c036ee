from __future__ import annotations

from django.urls import path

from console.metering import views

app_name = "metering"
urlpatterns = [
    path("", views.usage, name="usage"),
    path("export.csv", views.export, {"kind": "csv"}, name="export-csv"),
    path("export.json", views.export, {"kind": "json"}, name="export-json"),
]
