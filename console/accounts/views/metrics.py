"""The page of a tenant's metrics tokens."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts import tokens as services
from console.accounts.models import Role
from console.core.errors import Invalid
from console.core.requests import may, person, tenant_of


@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """Everybody of a tenant sees which there are; its owners make one.  The answer to that shows it, this once."""
    if request.method == "GET":
        return _page(request)
    name = request.POST.get("name", "").strip()
    try:
        _made, token = services.create(actor=person(request).user, tenant=tenant_of(request), name=name)
    except Invalid as refused:
        return _page(request, refused=refused)
    answer = _page(request, token=token)
    answer["Cache-Control"] = "no-store"
    return answer


def _page(request: HttpRequest, *, token: str = "", refused: Invalid | None = None) -> HttpResponse:
    context = {
        "tokens": services.tokens(tenant_of(request)),
        "may_own": may(request, Role.OWNER),
        "token": token,
        "name": request.POST.get("name", "") if refused else "",
        "problem": refused.message if refused else "",
    }
    return render(request, "accounts/tokens.html", context, status=422 if refused else 200)


@require_POST
def revoke(request: HttpRequest, id: int) -> HttpResponse:
    name = services.revoke(actor=person(request).user, tenant=tenant_of(request), id=id)
    messages.success(request, _("The token %(name)s opens nothing any more.") % {"name": name})
    return redirect("accounts:tokens")
