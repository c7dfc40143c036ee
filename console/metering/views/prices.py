"""For admins: the price books, and a new version from a file, which is looked at before it counts."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console.accounts.models import Tenant
from console.accounts.services import audit, require_admin
from console.core.errors import Invalid, NotAllowed
from console.core.requests import person
from console.metering.models import PriceBook
from console.metering.selectors import books as selectors
from console.metering.services import files, prices
from console.metering.splitting import HOUR, hour_of
from console.metering.units import UNITS
from console.metering.views.scope import Scope

MOST_BYTES = 1 << 20


@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    actor = person(request).user
    require_admin(actor)
    if request.method == "GET":
        return _page(request)
    try:
        made = files.draft_from_json(_text(request.FILES.get("file")), _tenant(request.POST.get("tenant", "")))
    except Invalid as refused:
        return _page(request, refused)
    audit("prices.draft", actor=actor, tenant=made.tenant, target=made.called)
    return redirect("metering:price-book", id=made.pk)


def _page(request: HttpRequest, refused: Invalid | None = None) -> HttpResponse:
    context = {
        "scope": Scope(None, everybody=True), "books": selectors.books(), "tenants_all": Tenant.objects.all(), "refused": refused,
        "chosen": request.POST.get("tenant", ""), "example": _example(timezone.now()),
        "meters": [(str(meter), tuple(units)) for meter, units in UNITS.items()], "most": MOST_BYTES,
    }  # fmt: skip
    return render(request, "metering/prices.html", context, status=422 if refused else 200)


def _example(now: dt.datetime) -> str:
    """A book that can be uploaded as it is: it holds from the next hour on."""
    prices = (
        {"sku": "CPU", "meter": "cpu", "unit": "Core-Seconds", "included": "3600", "tiers": [["0", "0.0000116"], ["100000", "0.0000104"]]},
        {"sku": "MEM", "meter": "memory_limit", "unit": "GiB-Seconds", "tiers": [["0", "0.0000013"]]},
        {"sku": "OUT", "meter": "net_tx", "unit": "GB", "included": "10", "tiers": [["0", "0.05"]]},
        {"sku": "VOL", "meter": "volume_size", "unit": "GiB-Seconds", "tiers": [["0", "0.00000004"]]},
    )  # fmt: skip
    lines = ",\n".join(f"    {json.dumps(price)}" for price in prices)
    valid_from = f"{hour_of(now) + HOUR:%Y-%m-%dT%H:00:00Z}"
    return f'{{\n  "currency": "EUR",\n  "valid_from": "{valid_from}",\n  "prices": [\n{lines}\n  ]\n}}\n'


def _text(file: UploadedFile[bytes] | None) -> str:
    if file is None:
        raise Invalid("file", _("Choose a JSON file."))
    if (file.size or 0) > MOST_BYTES:
        raise Invalid("file", _("The file is larger than 1 MiB: a price book is not."))
    try:
        return bytes(file.read()).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid("file", _("The file is not UTF-8 text.")) from None


def _tenant(id: str) -> Tenant | None:
    if not id:
        return None
    found = Tenant.objects.filter(pk=id).first()
    if found is None:
        raise Invalid("tenant", _("There is no such tenant."))
    return found


@require_GET
def book(request: HttpRequest, id: int) -> HttpResponse:
    require_admin(person(request).user)
    found = selectors.book(id)
    rows = [
        {
            "price": price,
            "tiers": [
                (Decimal(start), Decimal(each), Decimal(each) * 3600 if price.unit.endswith("-Seconds") else None)
                for start, each in price.tiers
            ],
        }
        for price in found.prices.all()
    ]
    context = {"scope": Scope(None, everybody=True), "book": found, "rows": rows}
    return render(request, "metering/price_book.html", context)


@require_GET
def download(request: HttpRequest, id: int) -> HttpResponse:
    """As a file that can be changed and uploaded again."""
    require_admin(person(request).user)
    found = selectors.book(id)
    answer = HttpResponse(json.dumps(prices.as_data(found), indent=2) + "\n", content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="prices-{_slug(found)}-{found.version}.json"'
    return answer


def _slug(book: PriceBook) -> str:
    return book.tenant.slug if book.tenant else "list"


@require_POST
def deed(request: HttpRequest, id: int, verb: str) -> HttpResponse:
    """``publish`` or ``discard`` a draft."""
    actor = person(request).user
    require_admin(actor)
    found = selectors.book(id)
    try:
        if verb == "publish":
            prices.publish(found.pk, actor=actor)
        elif verb == "discard":
            prices.discard(found.pk)
            audit("prices.discard", actor=actor, tenant=found.tenant, target=found.called)
        else:
            return HttpResponse(status=404)
    except (Invalid, NotAllowed) as refused:
        messages.error(request, refused.message)
        return redirect("metering:price-book", id=id)
    if verb == "discard":
        return redirect("metering:prices")
    messages.success(
        request, _("Published: it holds from %(time)s UTC.") % {"time": f"{found.valid_from:%Y-%m-%d %H:%M}"}
    )
    return redirect("metering:price-book", id=id)
