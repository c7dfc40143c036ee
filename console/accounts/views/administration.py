"""For admins of the system: tenants, their quotas, and users.  Anybody else learns nothing (404)."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts import services
from console.accounts.models import Role, Tenant, User
from console.core.errors import Invalid
from console.core.requests import person

GIB = 2**30


@require_http_methods(["GET", "POST"])
def tenants(request: HttpRequest) -> HttpResponse:
    actor = person(request).user
    services.require_admin(actor)
    if request.method == "POST":
        try:
            tenant = services.create_tenant(actor=actor, name=request.POST.get("name", "").strip())
        except Invalid as refused:
            messages.error(request, refused.message)
        else:
            messages.success(request, _("The tenant %(name)s was made.") % {"name": tenant.name})
        return redirect("accounts:tenants")
    rows = Tenant.objects.select_related("quota").prefetch_related("membership_set__user")
    return render(request, "administration/tenants.html", {"rows": rows})


@require_POST
def quota(request: HttpRequest, id: str) -> HttpResponse:
    tenant = get_object_or_404(Tenant, pk=id)
    data = request.POST
    try:
        services.set_quota(
            actor=person(request).user, tenant=tenant, containers=int(data["containers"]),
            memory_bytes=round(float(data["memory_gib"]) * GIB), cpu_millis=round(float(data["cpu"]) * 1000),
            published_ports=int(data["published_ports"]),
        )  # fmt: skip
    except (KeyError, ValueError, OverflowError):
        messages.error(request, _("A quota is a number."))
    except Invalid as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, _("The quota of %(name)s was changed.") % {"name": tenant.name})
    return redirect("accounts:tenants")


@require_http_methods(["GET", "POST"])
def users(request: HttpRequest) -> HttpResponse:
    """A new user's password is shown on the answer to the form, once."""
    actor = person(request).user
    services.require_admin(actor)
    context: dict[str, object] = {"roles": Role.choices, "tenants_all": Tenant.objects.all()}
    if request.method == "POST":
        try:
            context["made"] = _create(request, actor)
        except Invalid as refused:
            messages.error(request, refused.message)
    context["users"] = User.objects.prefetch_related("membership_set__tenant").order_by("username")
    return render(request, "administration/users.html", context)


def _create(request: HttpRequest, actor: User) -> dict[str, str]:
    user, password = services.create_user(
        actor=actor, username=request.POST.get("username", "").strip(), admin="admin" in request.POST
    )
    tenant = Tenant.objects.filter(pk=request.POST.get("tenant", "")).first()
    role = request.POST.get("role", "")
    if tenant is not None and role in Role.values:
        services.add_member(actor=actor, tenant=tenant, username=user.username, role=Role(role))
    return {"username": user.username, "password": password}
