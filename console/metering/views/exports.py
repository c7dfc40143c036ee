"""The export of any time, for other programs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from console.accounts.models import Tenant
from console.accounts.services import audit
from console.core.errors import Invalid
from console.core.requests import person, wants_a_page
from console.metering import exports
from console.metering.views.scope import scope

Export = Callable[[Tenant | None, dt.datetime, dt.datetime], Iterator[str]]


def _this_month() -> tuple[str, str]:
    """Its first day, and tomorrow, for the end of a period is not part of it."""
    today = timezone.now().date()
    return today.replace(day=1).isoformat(), (today + dt.timedelta(days=1)).isoformat()


@require_GET
def export(request: HttpRequest, kind: str) -> HttpResponse | StreamingHttpResponse:
    """``?start=…&end=…`` in UTC, else this month so far; ``&all=1`` is every tenant's or, with ``&tenant=``, that one's, for admins."""
    tenant = scope(request, everybody=bool(request.GET.get("all"))).tenant
    month, tomorrow = _this_month()
    try:
        start, end = exports.period(request.GET.get("start", month), request.GET.get("end", tomorrow))
    except Invalid as refused:
        if wants_a_page(request):
            raise
        text = f"{refused.field}: {refused.message}"
        return HttpResponse(text, status=400, content_type="text/plain; charset=utf-8")
    audit(
        "usage.download", actor=person(request).user, tenant=tenant, name=f"{start:%Y-%m-%dT%HZ} - {end:%Y-%m-%dT%HZ}", kind=kind,
        everybody=tenant is None,
    )  # fmt: skip
    chunks: Export = exports.csv_rows if kind == "csv" else exports.json_chunks
    answer = StreamingHttpResponse(
        chunks(tenant, start, end),
        content_type="text/csv; charset=utf-8" if kind == "csv" else "application/json",
    )
    name = f"slipway-usage-{tenant.slug if tenant else 'all'}-{start:%Y%m%dT%H}-{end:%Y%m%dT%H}.{kind}"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
