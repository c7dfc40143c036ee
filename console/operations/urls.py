from __future__ import annotations

from django.urls import path

from console.operations import views

app_name = "operations"
urlpatterns = [
    path("", views.index, name="list"),
    path("<str:id>/", views.one, name="operation"),
    path("<str:id>/cancel/", views.cancel, name="cancel"),
]
