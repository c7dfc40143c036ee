from __future__ import annotations

from collections.abc import Callable

from django.http import HttpResponseBase
from django.urls import URLPattern, path

from console.metering.views import (
    budgets,
    conservation,
    explorer,
    exports,
    invoices,
    prices,
    records,
    schedules,
    spending,
    sql,
)

app_name = "metering"
View = Callable[..., HttpResponseBase]


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
    *both("invoices/", invoices.index, "invoices"),
    *both("invoices/<str:month>/", invoices.page, "invoice"),
    *both("invoices/<str:month>/<str:name>", invoices.download, "invoice-download"),
    path("admin/periods/<int:id>/close/", invoices.close, name="close-period"),
    path("admin/periods/<int:id>/credit/", invoices.credit, name="give-credit"),
    path("admin/prices/", prices.index, name="prices"),
    path("admin/prices/<int:id>/", prices.book, name="price-book"),
    path("admin/prices/<int:id>/book.json", prices.download, name="price-book-download"),
    path("admin/prices/<int:id>/<str:verb>/", prices.deed, name="price-book-deed"),
    *both("budget/", budgets.page, "budget"),
    *both("budget/secret/", budgets.renew, "budget-secret"),
    *both("exports/", schedules.index, "exports"),
    *both("exports/add/", schedules.add, "add-export"),
    *both("exports/<str:id>/", schedules.page, "export"),
    *both("exports/<str:id>/<str:verb>/", schedules.deed, "export-deed"),
    *both("records/", records.page, "records"),
    *both("metering-error/", conservation.page, "metering-error"),
]
