from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console.accounts import selectors, services, signing_in
from console.accounts.middleware import SESSION_KEY
from console.accounts.models import Role, User
from console.core.errors import Invalid
from console.core.live import access_changed
from console.core.requests import may, person, tenant_of


class SignInForm(AuthenticationForm):
    too_often = False

    def clean(self) -> dict[str, Any]:
        if not self.cleaned_data.get("username") or not self.cleaned_data.get("password"):
            return super().clean()
        try:
            self.attempt = signing_in.begin(self.cleaned_data["username"])
        except signing_in.TooOften:
            self.too_often = True
            raise ValidationError(
                _("There were too many wrong passwords. Wait a quarter of an hour, then try again."), code="too_often"
            ) from None
        return super().clean()


@method_decorator(login_not_required, name="dispatch")
class SignIn(LoginView):
    template_name = "accounts/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        status = 429 if isinstance(form, SignInForm) and form.too_often else 422
        return self.render_to_response(self.get_context_data(form=form), status=status)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        if isinstance(form, SignInForm):
            signing_in.succeeded(form.attempt)
        answer = super().form_valid(form)
        user = form.get_user()
        if isinstance(user, User) and user.language:
            _remember_language(answer, user.language)
        return answer


class SignOut(LogoutView):
    """Other pages of the same session close with it."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        left = request.user.pk
        answer = super().post(request, *args, **kwargs)
        if left is not None:
            access_changed(left)
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
        services.change_password(user=person(request).user, password=form.cleaned_data["new_password1"])
        update_session_auth_hash(request, person(request).user)
        messages.success(request, _("Your password was changed."))
        return redirect("accounts:settings")
    context = {"form": form, "themes": User.Theme.choices}
    return render(request, "accounts/settings.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
def members(request: HttpRequest) -> HttpResponse:
    """Everybody of a tenant sees who is in it; its owners change that."""
    if request.method == "GET":
        return _members_page(request)
    try:
        _change_member(request)
    except Invalid as refused:
        return _members_page(request, refused)
    return redirect("accounts:members")


def _members_page(request: HttpRequest, refused: Invalid | None = None) -> HttpResponse:
    """``form`` in the context is the one that was refused: ``add``, or a member's user name."""
    action, name = request.POST.get("action", ""), request.POST.get("username", "")
    context = {
        "members": selectors.members(tenant_of(request)), "roles": Role.choices, "may_own": may(request, Role.OWNER),
        "form": "" if refused is None else name if action in {"change", "remove"} else "add", "data": request.POST,
        "errors": {refused.field: refused.message} if refused else {},
    }  # fmt: skip
    return render(request, "accounts/members.html", context, status=422 if refused else 200)


def _change_member(request: HttpRequest) -> None:
    tenant, actor, data = tenant_of(request), person(request).user, request.POST
    services.require(actor, tenant, Role.OWNER)
    action, name = data.get("action", ""), data.get("username", "").strip()
    if action == "remove":
        services.remove_member(actor=actor, tenant=tenant, username=name)
        messages.success(request, _("%(name)s is no member any more.") % {"name": name})
        return
    if data.get("role") not in Role.values:
        raise Invalid("role", _("There is no such role."))
    role = Role(data["role"])
    if action == "add":
        services.add_member(actor=actor, tenant=tenant, username=name, role=role)
        messages.success(request, _("%(name)s is a member now.") % {"name": name})
    elif action == "change":
        services.change_role(actor=actor, tenant=tenant, username=name, role=role)
        messages.success(request, _("The role of %(name)s was changed.") % {"name": name})
    else:
        raise Invalid("action", _("There is no such action."))


@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    """Of the tenant for its owners; with ``?all`` of everything for an admin."""
    user = person(request).user
    tenant = None if "all" in request.GET else tenant_of(request)
    return render(
        request, "accounts/audit.html", {"events": selectors.audit(user, tenant)[:300], "everything": tenant is None}
    )
