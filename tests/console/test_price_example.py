"""Who sets prices for the first time has a book to begin with; who launches reads the price beside the button, too."""

from __future__ import annotations

import datetime as dt
import html
import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from console.accounts import services as accounts
from console.accounts.models import Tenant, User
from console.metering.models import ExportSchedule, Meter, PriceBook
from console.metering.services import exports, prices
from console.metering.services.prices import BookDraft, PriceDraft
from console.metering.splitting import hour_of

pytestmark = pytest.mark.django_db


def test_the_example_is_uploaded_and_published_as_it_is(admin: User) -> None:
    client = Client()
    client.force_login(admin)
    page = html.unescape(client.get("/admin/prices/").content.decode())
    (example,) = re.findall(r'<pre class="example[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert dt.datetime.fromisoformat(json.loads(example)["valid_from"]) > timezone.now()
    assert all(f">{meter}<" in page for meter in Meter), "all that can have a price is named"
    client.post("/admin/prices/", {"file": SimpleUploadedFile("p.json", example.encode())})
    (book,) = PriceBook.objects.all()
    client.post(f"/admin/prices/{book.pk}/publish/")
    book.refresh_from_db()
    assert book.published_at
    page = client.get(f"/admin/prices/{book.pk}/").content.decode()
    rows = {row: "–" in row for row in re.findall(r'<tr>\s*<td class="mono">.*?</tr>', page, re.DOTALL)}
    assert [dash for row, dash in rows.items() if "GB" in row] == [True], (
        "what is bought by size has no price of an hour"
    )
    assert not any(dash for row, dash in rows.items() if "-Seconds" in row)


def test_the_price_is_beside_the_button_as_it_is_typed(tenant: Tenant, member: User) -> None:
    price = PriceDraft("RES", "cpu_limit", "Core-Seconds", (("0", "0.001"),))
    prices.publish(prices.draft(BookDraft("EUR", hour_of(timezone.now()), (price,))).pk)
    client = Client()
    client.force_login(member)
    page = client.get("/catalog/launch/?item=recipe:nginx").content.decode()
    (actions,) = re.findall(r'<div class="actions">\s*<p class="price-line.*?</div>', page, re.DOTALL)
    assert "3.60 EUR" in actions
    answer = client.post("/catalog/launch/price/", {"item": "recipe:nginx", "name": "a", "memory": "64", "cpu": "2"})
    shown, beside = answer.content.decode().split('<p class="price-line num" id="price-line" hx-swap-oob="true">')
    assert "7.20 EUR" in shown
    assert "7.20 EUR" in beside


def test_the_audit_log_names_what_it_is_about(tenant: Tenant, admin: User, owner: User) -> None:
    """An id says nothing to who reads it."""
    price = PriceDraft("RES", "cpu_limit", "Core-Seconds", (("0", "0.001"),))
    prices.publish(prices.draft(BookDraft("EUR", hour_of(timezone.now()), (price,))).pk)
    book = prices.draft(BookDraft("EUR", hour_of(timezone.now()), (price,)), tenant)
    client = Client()
    client.force_login(admin)
    client.post(f"/admin/prices/{book.pk}/publish/")
    accounts.set_quota(actor=admin, tenant=tenant, containers=7)
    ExportSchedule.objects.create(
        tenant=tenant, name="nightly", contents=["usage-csv"], every="day", hour=1, place="folder", root="/srv", folder="x",
        created_at=timezone.now(),
    )  # fmt: skip
    (schedule,) = ExportSchedule.objects.all()
    exports.set_paused(schedule=schedule, actor=owner, paused=True)
    page = client.get("/audit/?all").content.decode().partition("<tbody>")[2]
    assert f"{tenant.name} v1" in page
    assert "nightly" in page
    assert not any(id in page for id in (tenant.pk, schedule.pk))
