from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console.accounts import selectors, services
from console.accounts.middleware import SESSION_KEY
from console.accounts.models import Role, User
from console.core.errors import Invalid
from console.core.requests import may, person, tenant_of


@method_decorator(login_not_required, name="dispatch")
class SignIn(LoginView):
    template_name = "accounts/sign_in.html"
    authentication_form = AuthenticationForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        answer = super().form_valid(form)
        user = form.get_user()
        if isinstance(user, User) and user.language:
            _remember_language(answer, user.language)
        return answer


def _remember_language(answer: HttpResponse, language: str) -> None:
    answer.set_cookie(settings.LANGUAGE_COOKIE_NAME, language, max_age=365 * 24 * 3600, samesite="Lax", httponly=True)


def _back(request: HttpRequest) -> str:
    target = request.POST.get("next", "")
    return target if url_has_allowed_host_and_scheme(target, {request.get_host()}) else "/"


@require_POST
def switch_tenant(request: HttpRequest) -> HttpResponse:
    """Raises Missing for a tenant that is not the person's."""
    request.session[SESSION_KEY] = selectors.tenant(person(request).user, request.POST.get("tenant", "")).id
    return redirect("home")


@login_not_required
@require_POST
def switch_language(request: HttpRequest) -> HttpResponse:
    language = request.POST.get("language", "")
    answer = redirect(_back(request))
    if language in dict(settings.LANGUAGES):
        if request.user.is_authenticated:
            services.set_language(user=person(request).user, language=language)
        _remember_language(answer, language)
    return answer


@require_POST
def switch_theme(request: HttpRequest) -> HttpResponse:
    services.set_theme(user=person(request).user, theme=request.POST.get("theme", ""))
    return redirect(_back(request))


@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    form = PasswordChangeForm(person(request).user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        update_session_auth_hash(request, form.save())
        services.audit("user.password", actor=person(request).user, target=person(request).user.username)
        messages.success(request, _("Your password was changed."))
        return redirect("accounts:settings")
    return render(request, "accounts/settings.html", {"form": form, "themes": User.Theme.choices})


@require_http_methods(["GET", "POST"])
def members(request: HttpRequest) -> HttpResponse:
    """Everybody of a tenant sees who is in it; its owners change that."""
    tenant = tenant_of(request)
    if request.method == "POST":
        try:
            _change_member(request)
        except Invalid as refused:
            messages.error(request, refused.message)
        return redirect("accounts:members")
    context = {"members": selectors.members(tenant), "roles": Role.choices, "may_own": may(request, Role.OWNER)}
    return render(request, "accounts/members.html", context)


def _change_member(request: HttpRequest) -> None:
    tenant, actor, data = tenant_of(request), person(request).user, request.POST
    role = data.get("role", "")
    if role not in Role.values and data.get("action") != "remove":
        raise Invalid("role", _("There is no such role."))
    if data.get("action") == "add":
        services.add_member(actor=actor, tenant=tenant, username=data.get("username", "").strip(), role=Role(role))
        return
    member = selectors.members(tenant).filter(user__username=data.get("username", "")).first()
    if member is None:
        raise Invalid("username", _("Nobody of that name is a member."))
    if data.get("action") == "remove":
        services.remove_member(actor=actor, tenant=tenant, username=member.user.username)
    else:
        services.change_role(actor=actor, tenant=tenant, username=member.user.username, role=Role(role))


@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    """Of the tenant for its owners; with ``?all`` of everything for an admin."""
    user = person(request).user
    tenant = None if "all" in request.GET else tenant_of(request)
    return render(
        request, "accounts/audit.html", {"events": selectors.audit(user, tenant)[:300], "everything": tenant is None}
    )
