from __future__ import annotations

from django.urls import path

from console.workloads.views import changes, containers, files, processes

app_name = "workloads"
urlpatterns = [
    path("", containers.index, name="list"),
    path("rows/", containers.rows, name="rows"),
    path("<str:id>/", containers.page, name="container"),
    path("<str:id>/status/", containers.status, name="status"),
    path("<str:id>/configuration/", containers.configuration, name="configuration"),
    path("<str:id>/events/", containers.events, name="events"),
    path("<str:id>/isolation/", containers.isolation, name="isolation"),
    path("<str:id>/processes/", processes.processes, name="processes"),
    path("<str:id>/files/download/", files.download, name="download"),
    path("<str:id>/files/upload/", files.upload, name="upload"),
    path("<str:id>/limits/", changes.limits, name="limits"),
    path("<str:id>/rename/", changes.rename, name="rename"),
    path("<str:id>/connect/", changes.connect, name="connect"),
    path("<str:id>/disconnect/", changes.disconnect, name="disconnect"),
    path("<str:id>/cost/", containers.cost, name="cost"),
    path("<str:id>/logs/download/", containers.download_logs, name="download-logs"),
    path("<str:id>/<str:verb>/", containers.act, name="act"),
]
