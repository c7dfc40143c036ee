from __future__ import annotations

import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console.accounts.models import Role, Tenant
from console.catalog import selectors, services
from console.catalog.forms import FIELDS, LaunchForm
from console.core.errors import Full, Invalid, NotAllowed
from console.core.requests import may, person, tenant_of
from console.metering.selectors import spending
from console.workloads import selectors as containers
from console.workloads import services as workloads
from console.workloads.models import Network
from runtime.api import DEFAULT_NETWORK


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


def _blank(request: HttpRequest) -> LaunchForm:
    """With an application's defaults, or, by ``?like=<id>``, as another container was launched.  Raises Missing."""
    tenant = tenant_of(request)
    if not (like := request.GET.get("like", "")):
        return _form(request).blank(tenant)
    other = containers.container(person(request).user, like)
    item = selectors.item(tenant, f"recipe:{other.recipe}") if other.recipe else None
    return LaunchForm(item).like(other, tenant)


def _form(request: HttpRequest) -> LaunchForm:
    source = request.POST if request.method == "POST" else request.GET
    key = source.get("item", "")
    item = selectors.item(tenant_of(request), key) if key else None
    return LaunchForm(item, image=source.get("image", "").strip())


def _launching_in(request: HttpRequest) -> Tenant:
    """Raises NotAllowed."""
    tenant = tenant_of(request)
    if not may(request, Role.MEMBER):
        raise NotAllowed(_("Your role in %(tenant)s does not allow launching.") % {"tenant": tenant.name})
    return tenant


@require_http_methods(["GET", "POST"])
def launch(request: HttpRequest) -> HttpResponse:
    tenant = _launching_in(request)
    if request.method == "GET":
        return _launch_page(request, _blank(request), uuid.uuid4().hex)
    form = _form(request)
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
        form.refuse(refused)
    return _launch_page(request, form, key, status=422)


def _nothing() -> workloads.LaunchRequest:
    return workloads.LaunchRequest(name="")


def _launched(request: HttpRequest, key: str) -> bool:
    """A second click of the same form: its own name is taken by the first, and that is no mistake."""
    from console.operations.models import Operation

    return Operation.objects.of(tenant_of(request)).filter(request_key=f"launch-{key}").exists()


def _launch_page(request: HttpRequest, form: LaunchForm, key: str, status: int = 200) -> HttpResponse:
    context = {
        "form": form, "item": form.item, "request_key": key, "share": containers.share(tenant_of(request)), **_price(request, form),
        "volumes": containers.usable_volumes(tenant_of(request)), "networks": _networks(request),
    }  # fmt: skip
    return render(request, "catalog/launch.html", context, status=status)


def _networks(request: HttpRequest) -> list[Network]:
    """Those that can be chosen, ``default`` first, whether or not the tenant has it yet."""
    rows = containers.usable_networks(tenant_of(request))
    default = next((one for one in rows if one.is_default), Network(name=DEFAULT_NETWORK))
    return [default, *(one for one in rows if not one.is_default)]


def _price(request: HttpRequest, form: LaunchForm) -> dict[str, object]:
    """By the tenant's price book; ``unclear`` where the form does not say of what."""
    held = form.reserved()
    return {
        "unclear": held is None,
        "price": spending.price(tenant_of(request), timezone.now(), **held) if held else None,
    }


@require_POST
def price(request: HttpRequest) -> HttpResponse:
    """What the form's launch would cost, as it is typed."""
    form = _form(request).fill(request.POST)
    return render(request, "catalog/_price_answer.html", _price(request, form))


@require_POST
def check(request: HttpRequest, field: str) -> HttpResponse:
    """The sentence for one field, as it is typed, for those who may launch: it tells who has an address or a name."""
    tenant = _launching_in(request)
    if field not in FIELDS:
        return HttpResponse(status=404)
    form = _form(request).fill(request.POST)
    form.request(tenant)
    return render(request, "catalog/_problem.html", {"field": field, "problem": form.errors.get(field, "")})


@require_POST
def build(request: HttpRequest, slug: str) -> HttpResponse:
    """Build a built-in image now rather than at its first launch."""
    if not may(request, Role.MEMBER):
        raise NotAllowed(_("Your role does not allow this."))
    services.prepare_builtin([slug], actor=person(request).user)
    return redirect("catalog:list")


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
