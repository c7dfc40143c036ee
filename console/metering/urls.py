from __future__ import annotations

from collections.abc import Callable

from django.http import HttpResponse
from django.urls import URLPattern, path

from console.metering.views import conservation, explorer, exports, records, spending, sql

app_name = "metering"
View = Callable[..., HttpResponse]


def both(route: str, view: View, name: str) -> list[URLPattern]:
    """The tenant's own page, and everybody's for admins."""
    return [
        path(f"usage/{route}", view, {"everybody": False}, name=name),
        path(f"admin/{route}", view, {"everybody": True}, name=f"all-{name}"),
    ]


urlpatterns = [
    path("usage/", explorer.page, {"everybody": False}, name="usage"),
    path("admin/usage/", explorer.page, {"everybody": True}, name="all-usage"),
    path("usage/export.csv", exports.export, {"kind": "csv"}, name="export-csv"),
    path("usage/export.json", exports.export, {"kind": "json"}, name="export-json"),
    path("usage/sql/", sql.page, name="sql"),
    path("usage/sql/answer.csv", sql.download, {"kind": "csv"}, name="sql-csv"),
    path("usage/sql/answer.json", sql.download, {"kind": "json"}, name="sql-json"),
    path("usage/so-far/", spending.so_far, name="so-far"),
    *both("records/", records.page, "records"),
    *both("metering-error/", conservation.page, "metering-error"),
]
