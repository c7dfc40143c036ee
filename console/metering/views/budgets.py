"""A tenant's budget: how far the month is, what was told, and the form of it; for admins also the list of all."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts.models import Role
from console.accounts.selectors import role_in
from console.core.errors import Invalid
from console.core.requests import person
from console.metering.selectors import budgets as selectors
from console.metering.selectors.spending import spending
from console.metering.services import budgets as services
from console.metering.views.scope import Scope, scope

MOST_ALERTS = 50


@require_http_methods(["GET", "POST"])
def page(request: HttpRequest, *, everybody: bool) -> HttpResponse:
    whose = scope(request, everybody=everybody)
    if whose.tenant is None:
        return render(request, "metering/budgets.html", {"scope": whose, "budgets": selectors.everybodys()})
    if request.method == "GET":
        return _page(request, whose)
    data = request.POST
    wish = services.Wish(
        data.get("amount", ""), data.get("actual", ""), data.get("forecast", ""), "stop_launches" in data,
        data.get("webhook_url", ""), "webhook_inside" in data,
    )  # fmt: skip
    try:
        secret = services.save(tenant=whose.tenant, actor=person(request).user, wish=wish)
    except Invalid as refused:
        return _page(request, whose, refused=refused)
    if secret:
        return _page(request, whose, secret=secret)
    messages.success(request, _("The budget was saved.") if wish.amount.strip() else _("There is no budget any more."))
    return redirect(whose.url("budget"))


@require_POST
def renew(request: HttpRequest, *, everybody: bool) -> HttpResponse:
    """A new secret, shown once."""
    whose = scope(request, everybody=everybody)
    if whose.tenant is None:
        return redirect(whose.url("budget"))
    try:
        secret = services.renew_secret(tenant=whose.tenant, actor=person(request).user)
    except Invalid as refused:
        return _page(request, whose, refused=refused)
    return _page(request, whose, secret=secret)


@sensitive_variables("secret")
def _page(request: HttpRequest, whose: Scope, *, refused: Invalid | None = None, secret: str = "") -> HttpResponse:
    assert whose.tenant is not None
    now, user = timezone.now(), person(request).user
    budget, found = selectors.budget(whose.tenant), spending(whose.tenant, now)
    role = role_in(user, whose.tenant)
    context = {
        "scope": whose, "budget": budget, "spending": found, "secret": secret,
        "progress": selectors.Progress(budget, found.so_far, found.forecast) if budget and found else None,
        "alerts": [(one, selectors.sentence(one)) for one in selectors.alerts(whose.tenant)[:MOST_ALERTS]],
        "may_own": role is not None and role.includes(Role.OWNER), "data": request.POST if refused else None,
        "errors": {refused.field: refused.message} if refused else {},
    }  # fmt: skip
    answer = render(request, "metering/budget.html", context, status=422 if refused else 200)
    answer["Cache-Control"] = "no-store"
    return answer
