"""Invoices: the list, one of them with its lines and downloads; for admins the months of all tenants, closing and credits."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal, DecimalException

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from console.accounts.services import audit, require_admin
from console.core.errors import Invalid, NotAllowed
from console.core.requests import person
from console.metering.exports import archive, focus, lines
from console.metering.models import Period
from console.metering.months import month_of
from console.metering.selectors import invoices as selectors
from console.metering.services import periods
from console.metering.services.credits import give
from console.metering.spans import NO_YEAR, YEARS
from console.metering.views.scope import Scope, scope

SIZE = 100
BUNDLE = "verify-bill.zip"
Chunks = Callable[[Period], Iterator[str] | Iterator[bytes]]
DOWNLOADS: dict[str, tuple[str, Chunks]] = {
    "lines.csv": ("text/csv; charset=utf-8", lines.csv_rows),
    "lines.json": ("application/json", lines.json_chunks),
    "focus-1.2.csv": ("text/csv; charset=utf-8", lambda period: focus.csv_chunks(period, "1.2")),
    "focus-1.3.csv": ("text/csv; charset=utf-8", lambda period: focus.csv_chunks(period, "1.3")),
    BUNDLE: ("application/zip", archive.zipped),
}


@require_GET
def index(request: HttpRequest, *, everybody: bool) -> HttpResponse:
    """The tenant's months; for an admin those of all tenants in ``?month=2026-11``, or of the one that is named."""
    whose = scope(request, everybody=everybody)
    this = month_of(timezone.now())[0]
    month = _month(request.GET["month"]) if request.GET.get("month") else this
    found = selectors.of_month(month) if whose.tenant is None else selectors.statements(whose.tenant)
    context = {
        "scope": whose, "statements": found, "month": month, "before": f"{month - dt.timedelta(days=1):%Y-%m}",
        "after": f"{month_of(month)[1]:%Y-%m}" if month < this else "", "now": timezone.now(),
    }  # fmt: skip
    return render(request, "metering/invoices.html", context)


@require_GET
def page(request: HttpRequest, month: str, *, everybody: bool) -> HttpResponse:
    """``?after=`` is the number of the line behind which its lines go on."""
    return _page(request, *_statement(request, month, everybody=everybody))


def _page(
    request: HttpRequest, whose: Scope, found: selectors.Statement, *, refused: Invalid | None = None
) -> HttpResponse:
    """``refused``: of the credit that was asked for; the form comes back as it was typed."""
    after = request.GET.get("after", "")
    behind = int(after[:9]) if after.isascii() and after.isdigit() else 0
    some = list(selectors.lines(found, after=behind)[: SIZE + 1])
    corrected = selectors.corrected_from(found)
    own = {} if whose.tenant is None or not whose.everybody else {"tenant": whose.tenant.pk}
    context = {
        "scope": whose, "found": found, "name": selectors.billed_name(found), "summary": selectors.summary(found),
        "first": corrected or found.period.starts_at,
        "on": f"&billed={found.month}" if corrected or selectors.came_late(found) else "",
        "containers": selectors.by_container(found), "credits": selectors.given_credits(found),
        "lines": some[:SIZE], "more": some[SIZE - 1].number if len(some) > SIZE else 0, "behind": behind,
        "own": own, "downloads": [name for name in DOWNLOADS if name != BUNDLE], "now": timezone.now(),
        "request_key": request.POST.get("request_key") or uuid.uuid4().hex, "typed": request.POST,
        "errors": {refused.field: refused.message} if refused else {},
    }  # fmt: skip
    return render(request, "metering/invoice.html", context, status=422 if refused else 200)


@require_GET
def download(request: HttpRequest, month: str, name: str, *, everybody: bool) -> HttpResponse | StreamingHttpResponse:
    _whose, found = _statement(request, month, everybody=everybody)
    period = found.period
    file = f"{period.tenant.slug}-{found.month}-{name}"
    if name not in DOWNLOADS:
        raise Http404
    kind, chunks = DOWNLOADS[name]
    audit("invoice.download", actor=person(request).user, tenant=period.tenant, target=found.month, name=file)
    answer = StreamingHttpResponse(chunks(period), content_type=kind)
    answer["Content-Disposition"] = f'attachment; filename="{file}"'
    return answer


@require_POST
def close(request: HttpRequest, id: int) -> HttpResponse:
    actor = person(request).user
    require_admin(actor)
    period = get_object_or_404(Period.objects.select_related("tenant"), pk=id)
    try:
        invoice = periods.close(period.pk, timezone.now(), actor=actor)
    except NotAllowed as refused:
        messages.error(request, f"{period.tenant.name} {period.starts_at:%Y-%m}: {refused.message}")
    else:
        messages.success(request, _("Closed: invoice %(number)s.") % {"number": invoice.number})
    return redirect(_of(period))


@require_POST
def credit(request: HttpRequest, id: int) -> HttpResponse:
    actor = person(request).user
    require_admin(actor)
    period = get_object_or_404(Period.objects.select_related("tenant"), pk=id)
    try:
        give(
            period.pk, _amount(request.POST.get("amount", "")), request.POST.get("reason", ""),
            key=request.POST.get("request_key", "")[:64] or uuid.uuid4().hex, actor=actor,
        )  # fmt: skip
    except Invalid as refused:
        return _page(
            request, Scope(period.tenant, everybody=True), selectors.statement(period.tenant, period.starts_at), refused=refused
        )  # fmt: skip
    except NotAllowed as refused:
        messages.error(request, refused.message)
    else:
        messages.success(
            request,
            _("The credit was given: it is on the invoice of %(month)s.") % {"month": f"{period.starts_at:%Y-%m}"},
        )
    return redirect(_of(period))


def _of(period: Period) -> str:
    return Scope(period.tenant, everybody=True).url("invoice", month=f"{period.starts_at:%Y-%m}")


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text.strip())
    except DecimalException:
        raise Invalid("amount", _("Write an amount such as 12.50.")) from None


def _statement(request: HttpRequest, month: str, *, everybody: bool) -> tuple[Scope, selectors.Statement]:
    whose = scope(request, everybody=everybody)
    if whose.tenant is None:
        raise Http404
    return whose, selectors.statement(whose.tenant, _month(month))


def _month(text: str) -> dt.datetime:
    try:
        found = dt.datetime.strptime(text, "%Y-%m").replace(tzinfo=dt.UTC)
    except ValueError:
        found = NO_YEAR
    if found.year not in YEARS:
        raise Invalid("month", _("Write a month such as 2026-11."))
    return found
