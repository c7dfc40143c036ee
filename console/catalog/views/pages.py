from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console.accounts.models import Role
from console.catalog import selectors, services
from console.catalog.forms import FIELDS, LaunchForm
from console.core.errors import Full, Invalid, NotAllowed
from console.core.requests import may, person, tenant_of
from console.workloads import services as workloads


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    tenant = tenant_of(request)
    return render(
        request,
        "catalog/list.html",
        {
            "items": selectors.items(tenant),
            "may_launch": may(request, Role.MEMBER),
            "may_own": may(request, Role.OWNER),
        },
    )


@require_GET
def card(request: HttpRequest, key: str) -> HttpResponse:
    item = selectors.item(tenant_of(request), key)
    return render(request, "catalog/_card.html", {"item": item, "may_launch": may(request, Role.MEMBER)})


def _form(request: HttpRequest) -> LaunchForm:
    source = request.POST if request.method == "POST" else request.GET
    key = source.get("item", "")
    item = selectors.item(tenant_of(request), key) if key else None
    return LaunchForm(item, image=source.get("image", "").strip())


@require_http_methods(["GET", "POST"])
def launch(request: HttpRequest) -> HttpResponse:
    tenant = tenant_of(request)
    if not may(request, Role.MEMBER):
        raise NotAllowed(_("Your role in %(tenant)s does not allow launching.") % {"tenant": tenant.name})
    form = _form(request)
    if request.method == "GET":
        return _launch_page(request, form.blank(tenant), uuid.uuid4().hex)
    key = request.POST.get("request_key", "")[:56] or uuid.uuid4().hex
    asked = form.fill(request.POST)
    wanted = asked.request(tenant)
    try:
        if wanted is not None or _launched(request, key):
            operation = workloads.launch(
                tenant=tenant, actor=person(request).user, request=wanted or _nothing(), request_key=f"launch-{key}"
            )
            return redirect("workloads:container", id=operation.container_id)
    except (Invalid, Full) as refused:
        form.errors[refused.field] = refused.message
    return _launch_page(request, form, key, status=422)


def _nothing() -> workloads.LaunchRequest:
    return workloads.LaunchRequest(name="")


def _launched(request: HttpRequest, key: str) -> bool:
    """A second click of the same form: its own name is taken by the first, and that is no mistake."""
    from console.operations.models import Operation

    return Operation.objects.of(tenant_of(request)).filter(request_key=f"launch-{key}").exists()


def _launch_page(request: HttpRequest, form: LaunchForm, key: str, status: int = 200) -> HttpResponse:
    return render(request, "catalog/launch.html", {"form": form, "item": form.item, "request_key": key}, status=status)


@require_POST
def check(request: HttpRequest, field: str) -> HttpResponse:
    """The sentence for one field, as it is typed."""
    if field not in FIELDS:
        return HttpResponse(status=404)
    form = _form(request).fill(request.POST)
    form.request(tenant_of(request))
    return render(request, "catalog/_problem.html", {"field": field, "problem": form.errors.get(field, "")})


@require_POST
def build(request: HttpRequest, slug: str) -> HttpResponse:
    """Build a built-in image now rather than at its first launch."""
    if not may(request, Role.MEMBER):
        raise NotAllowed(_("Your role does not allow this."))
    services.prepare_builtin([slug], actor=person(request).user)
    return redirect("catalog:list")


# ------------------------------------------------------------------------------------------------ registries


@require_http_methods(["GET", "POST"])
def registries(request: HttpRequest) -> HttpResponse:
    tenant = tenant_of(request)
    errors: dict[str, str] = {}
    if request.method == "POST":
        try:
            services.add_registry(
                tenant=tenant, actor=person(request).user, host=request.POST.get("host", "").strip(),
                name=request.POST.get("name", "").strip(), username=request.POST.get("username", "").strip(),
                password=request.POST.get("password", ""), insecure="insecure" in request.POST,
            )  # fmt: skip
        except Invalid as refused:
            errors[refused.field] = refused.message
        else:
            messages.success(request, _("The registry was added."))
            return redirect("catalog:registries")
    context = {
        "registries": selectors.registries(tenant), "repositories": selectors.repositories(tenant),
        "errors": errors, "data": request.POST, "may_own": may(request, Role.OWNER),
    }  # fmt: skip
    return render(request, "catalog/registries.html", context, status=422 if errors else 200)


@require_POST
def remove_registry(request: HttpRequest, id: str) -> HttpResponse:
    services.remove_registry(registry=selectors.registry(tenant_of(request), id), actor=person(request).user)
    messages.success(request, _("The registry was removed."))
    return redirect("catalog:registries")


@require_POST
def add_repository(request: HttpRequest) -> HttpResponse:
    tenant, data = tenant_of(request), request.POST
    try:
        port = int(data["port"]) if data.get("port") else None
        registry = selectors.registry(tenant, data["registry"]) if data.get("registry") else None
        services.add_repository(
            tenant=tenant, actor=person(request).user, registry=registry, name=data.get("name", "").strip(),
            title=data.get("title", ""), tag=data.get("tag", "").strip() or "latest", port=port,
            description=data.get("description", "").strip(),
        )  # fmt: skip
    except (Invalid, ValueError) as refused:
        messages.error(request, refused.message if isinstance(refused, Invalid) else _("The port is not a number."))
    else:
        messages.success(request, _("The entry was added to the catalog."))
    return redirect("catalog:registries")


@require_POST
def remove_repository(request: HttpRequest, id: str) -> HttpResponse:
    repository = get_object_or_404(selectors.repositories(tenant_of(request)), pk=id)
    services.remove_repository(repository=repository, actor=person(request).user)
    return redirect("catalog:registries")


@require_GET
def icon(_request: HttpRequest, slug: str) -> HttpResponse:
    """Icons lie beside their recipes."""
    from runtime.image.recipe import recipe

    known = recipe(slug)
    if known is None or not known.icon.exists():
        return HttpResponse(status=404)
    answer = HttpResponse(known.icon.read_bytes(), content_type="image/svg+xml")
    answer["Cache-Control"] = "private, max-age=3600"
    return answer
