"""For admins of the system: tenants, their quotas, and users.  Anybody else learns nothing (404)."""

from __future__ import annotations

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts import selectors, services
from console.accounts.models import Role, Tenant, User
from console.core.errors import Invalid
from console.core.requests import person

GIB = 2**30
QUOTA_FIELDS = {
    "memory_bytes": "memory_gib",
    "cpu_millis": "cpu",
    "disk_bytes": "disk_gib",
    "volume_bytes": "volume_gib",
}
"""What the form calls otherwise than the quota, for it has other units."""


@require_http_methods(["GET", "POST"])
def tenants(request: HttpRequest) -> HttpResponse:
    actor = person(request).user
    services.require_admin(actor)
    if request.method == "GET":
        return _tenants_page(request)
    try:
        tenant = services.create_tenant(actor=actor, name=request.POST.get("name", "").strip())
    except Invalid as refused:
        return _tenants_page(request, "new", refused)
    messages.success(request, _("The tenant %(name)s was made.") % {"name": tenant.name})
    return redirect("accounts:tenants")


def _tenants_page(request: HttpRequest, form: str = "", refused: Invalid | None = None) -> HttpResponse:
    """``form`` is the one that was refused: ``new``, or a tenant's id."""
    context = {
        "rows": selectors.tenants_with_quotas(),
        "form": form, "data": request.POST, "errors": {refused.field: refused.message} if refused else {},
    }  # fmt: skip
    return render(request, "administration/tenants.html", context, status=422 if refused else 200)


@require_POST
def quota(request: HttpRequest, id: str) -> HttpResponse:
    actor = person(request).user
    services.require_admin(actor)
    tenant = get_object_or_404(Tenant, pk=id)
    try:
        services.set_quota(
            actor=actor, tenant=tenant, containers=_whole(request, "containers"),
            memory_bytes=_scaled(request, "memory_gib", GIB), cpu_millis=_scaled(request, "cpu", 1000),
            published_ports=_whole(request, "published_ports"), volumes=_whole(request, "volumes"),
            networks=_whole(request, "networks"), disk_bytes=_or_none(request, "disk_gib"),
            volume_bytes=_or_none(request, "volume_gib"),
        )  # fmt: skip
    except Invalid as refused:
        refused.field = QUOTA_FIELDS.get(refused.field, refused.field)
        return _tenants_page(request, tenant.id, refused)
    messages.success(request, _("The quota of %(name)s was changed.") % {"name": tenant.name})
    return redirect("accounts:tenants")


def _whole(request: HttpRequest, field: str) -> int:
    try:
        return int(request.POST.get(field, ""))
    except ValueError:
        raise Invalid(field, _("Write a whole number.")) from None


def _or_none(request: HttpRequest, field: str) -> int | None:
    """GiB; empty: no ceiling."""
    return _scaled(request, field, GIB) if request.POST.get(field, "").strip() else None


def _scaled(request: HttpRequest, field: str, unit: int) -> int:
    try:
        return round(float(request.POST.get(field, "")) * unit)
    except (ValueError, OverflowError):
        raise Invalid(field, _("Write a number, such as 4 or 0.5.")) from None


@require_http_methods(["GET", "POST"])
def users(request: HttpRequest) -> HttpResponse:
    """A new user's password is shown on the answer to the form, once."""
    actor = person(request).user
    services.require_admin(actor)
    if request.method == "GET":
        return _users_page(request)
    try:
        made = _create(request, actor)
    except Invalid as refused:
        return _users_page(request, refused=refused)
    return _users_page(request, made=made)


def _users_page(
    request: HttpRequest, *, made: dict[str, str] | None = None, refused: Invalid | None = None
) -> HttpResponse:
    context = {
        "roles": Role.choices, "tenants_all": Tenant.objects.all(), "users": selectors.users(), "made": made,
        "data": request.POST if refused else {}, "errors": {refused.field: refused.message} if refused else {},
    }  # fmt: skip
    answer = render(request, "administration/users.html", context, status=422 if refused else 200)
    answer["Cache-Control"] = "no-store"
    return answer


@sensitive_variables("password")
@transaction.atomic
def _create(request: HttpRequest, actor: User) -> dict[str, str]:
    """With the membership, or neither."""
    data = request.POST
    user, password = services.create_user(
        actor=actor, username=data.get("username", "").strip(), admin="admin" in data
    )  # fmt: skip
    if data.get("tenant"):
        tenant = Tenant.objects.filter(pk=data["tenant"]).first()
        if tenant is None:
            raise Invalid("tenant", _("There is no such tenant."))
        if data.get("role") not in Role.values:
            raise Invalid("role", _("There is no such role."))
        services.add_member(actor=actor, tenant=tenant, username=user.username, role=Role(data["role"]))
    return {"username": user.username, "password": password}


@require_POST
def user_deed(request: HttpRequest, id: int, verb: str) -> HttpResponse:
    """``password`` answers with the new one, once; ``activate``, ``deactivate``, ``grant`` and ``revoke`` lead back to the page."""
    actor = person(request).user
    services.require_admin(actor)
    user = get_object_or_404(User, pk=id)
    try:
        if verb == "password":
            made = {"username": user.username, "password": services.reset_password(actor=actor, user=user)}
            return _users_page(request, made=made)
        if verb in {"activate", "deactivate"}:
            services.set_active(actor=actor, user=user, active=verb == "activate")
        elif verb in {"grant", "revoke"}:
            services.set_admin(actor=actor, user=user, admin=verb == "grant")
        else:
            return HttpResponse(status=404)
    except Invalid as refused:
        return _users_page(request, refused=refused)
    messages.success(request, _("%(name)s was changed.") % {"name": user.username})
    return redirect("accounts:users")
