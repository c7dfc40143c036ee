"""Scheduled exports: the list with the form of a new one, and one with its deliveries and what may be done to it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from console.accounts.models import Role
from console.accounts.selectors import role_in
from console.core.errors import Full, Invalid, Missing, NotAllowed
from console.core.requests import person
from console.metering.models import ExportSchedule
from console.metering.selectors import exports as selectors
from console.metering.services import exports as services
from console.metering.views.scope import Scope, scope

SIZE = 50
VERBS = ("run", "pause", "resume", "credentials", "remove")


def contents() -> list[tuple[str, str, str]]:
    """Key, what it is, and its files."""
    return [
        ("usage-csv", _("Usage by the hour"), "usage.csv"),
        ("usage-jsonl", _("Usage by the hour"), "usage.jsonl"),
        ("usage-parquet", _("Usage by the hour"), "usage.parquet"),
        ("focus", _("Charges as FOCUS"), "focus-1.3.csv, .parquet"),
        ("readings", _("Raw readings"), "readings.jsonl, epochs.jsonl"),
    ]


@require_GET
def index(request: HttpRequest, *, everybody: bool) -> HttpResponse:
    return _index(request, scope(request, everybody=everybody))


@sensitive_post_parameters("secret")
@require_POST
def add(request: HttpRequest, *, everybody: bool) -> HttpResponse:
    whose, data = scope(request, everybody=everybody), request.POST
    try:
        made = services.add(tenant=whose.tenant, actor=person(request).user, wish=_wish(data))
    except (Invalid, Full) as refused:
        return _index(request, whose, refused=refused)
    messages.success(request, _("The export %(name)s was set up.") % {"name": made.name})
    return redirect(whose.url("exports"))


@require_GET
def page(request: HttpRequest, id: str, *, everybody: bool) -> HttpResponse:
    whose = scope(request, everybody=everybody)
    return _page(request, whose, _schedule(whose, id))


@sensitive_post_parameters("secret")
@require_POST
def deed(request: HttpRequest, id: str, verb: str, *, everybody: bool) -> HttpResponse:
    """``run`` (``period``), ``pause``, ``resume``, ``credentials``, ``remove``."""
    whose = scope(request, everybody=everybody)
    schedule = _schedule(whose, id)
    try:
        done = _do(verb, schedule, request)
    except (Invalid, NotAllowed) as refused:
        if isinstance(refused, NotAllowed) and not _may_change(request, schedule):
            raise
        return _page(request, whose, schedule, refused=refused)
    messages.success(request, done)
    return redirect(whose.url("exports") if verb == "remove" else _url(whose, schedule))


def _do(verb: str, schedule: ExportSchedule, request: HttpRequest) -> str:
    actor, data = person(request).user, request.POST
    if verb == "run":
        services.run_now(schedule=schedule, actor=actor, period=data.get("period", ""))
        return _("It is made within a minute.")
    if verb in {"pause", "resume"}:
        services.set_paused(schedule=schedule, actor=actor, paused=verb == "pause")
        return _("The export is paused.") if verb == "pause" else _("The export goes on.")
    if verb == "credentials":
        services.change_credentials(
            schedule=schedule, actor=actor, access_key=data.get("access_key", ""), secret=data.get("secret", "")
        )
        return _("The new credentials are used from now on.")
    if verb == "remove":
        services.remove(schedule=schedule, actor=actor)
        return _("The export was removed. What it has delivered stays where it is.")
    raise Http404


def _wish(data: QueryDict) -> services.Wish:
    texts = ("name", "every", "hour", "place", "folder", "root", "endpoint", "region", "bucket", "access_key", "secret")
    return services.Wish(
        contents=tuple(data.getlist("contents")),
        inside="inside" in data,
        **{name: data.get(name, "") for name in texts},
    )


def _schedule(whose: Scope, id: str) -> ExportSchedule:
    """A tenant's page knows the tenant's alone; an admin's any.  Raises Missing."""
    found = ExportSchedule.objects.select_related("tenant")
    if not whose.everybody:
        found = found.filter(tenant=whose.tenant)
    schedule = found.filter(pk=id).first()
    if schedule is None:
        raise Missing
    return schedule


def _may_change(request: HttpRequest, schedule: ExportSchedule) -> bool:
    return _owns(request, Scope(schedule.tenant, everybody=schedule.tenant is None))


def _owns(request: HttpRequest, whose: Scope) -> bool:
    user = person(request).user
    if whose.tenant is None:
        return user.is_superuser
    role = role_in(user, whose.tenant)
    return role is not None and role.includes(Role.OWNER)


def _url(whose: Scope, schedule: ExportSchedule, verb: str = "") -> str:
    """Of its page, or of a deed to it; an admin's keeps the tenant that it is narrowed to."""
    name = f"{'all-' if whose.everybody else ''}export{'-deed' if verb else ''}"
    words = {"verb": verb} if verb else {}
    narrowed = f"?{urlencode({'tenant': whose.tenant.pk})}" if whose.everybody and whose.tenant else ""
    return reverse(f"metering:{name}", kwargs={"id": schedule.pk, **words}) + narrowed


def _index(request: HttpRequest, whose: Scope, refused: Invalid | Full | None = None) -> HttpResponse:
    data: Any = request.POST if refused else {"every": "day", "hour": "1", "place": "s3"}
    context = {
        "scope": whose, "schedules": [(one, _url(whose, one)) for one in selectors.schedules(whose.tenant)],
        "may_own": _owns(request, whose), "roots": settings.EXPORT_ROOTS, "contents": contents(), "hours": range(24),
        "data": data, "chosen": request.POST.getlist("contents") if refused else ["usage-csv"],
        "errors": {refused.field: refused.message} if refused else {},
    }  # fmt: skip
    return render(request, "metering/exports.html", context, status=422 if refused else 200)


def _page(
    request: HttpRequest, whose: Scope, schedule: ExportSchedule, refused: Invalid | NotAllowed | None = None
) -> HttpResponse:
    some = Paginator(selectors.deliveries(schedule), SIZE).get_page(request.GET.get("page"))
    context = {
        "scope": whose, "schedule": schedule, "deliveries": [(one, selectors.period_name(schedule, one.starts_at)) for one in some],
        "page": some, "may_own": _may_change(request, schedule), "data": request.POST if refused else None,
        "contents": [row for row in contents() if row[0] in schedule.contents],
        "deeds": {verb: _url(whose, schedule, verb) for verb in VERBS},
        "errors": {refused.field or "period": refused.message} if refused else {},
    }  # fmt: skip
    return render(request, "metering/export.html", context, status=422 if refused else 200)
