"""Invoices on screen and as files say what the invoice says; months close and prices change by an admin's hand, or not at all and why."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.accounts.models import AuditEvent, Tenant, User
from console.core.errors import Invalid
from console.metering.models import Credit, Invoice, Period, PriceBook, RatingRun
from console.metering.models.decimals import plain
from console.metering.selectors.invoices import statement, summary
from console.metering.services import costs, credits, files, periods
from console.metering.services.prices import PriceDraft
from console.metering.services.rating import rate_period
from console.metering.units import total
from console.workloads.models import Container
from tests.console.test_metering_bills import CPU, LATER, MEMORY, MONTH, NEXT, OUT, period, published, use

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice(container: Container) -> Invoice:
    use(container)
    published(CPU, MEMORY, OUT)
    published(PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.00001"),)), tenant=container.tenant)
    credits.give(period().pk, Decimal("0.05"), "an outage", key="k1")
    return periods.close(period().pk, NEXT)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def whole(answer: object) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content  # type: ignore[attr-defined]


def test_the_summary_sums_to_the_invoice(invoice: Invoice, tenant: Tenant) -> None:
    rows = summary(statement(tenant, MONTH))
    assert total(*(row.cost for row in rows)) == invoice.charges
    lines = invoice.period.run.lines  # type: ignore[union-attr]
    assert sum(row.lines for row in rows) == lines.count()
    for row in rows:
        assert row.unit_price is not None
        assert row.unit_price * row.quantity == row.cost
    cpu = [row for row in rows if row.sku == "CPU"]
    assert {row.unit_price for row in cpu} == {Decimal("0.00001")}
    assert len({row.list_unit_price for row in cpu}) == 3


def test_an_invoice_from_before_there_was_a_summary_gets_one(invoice: Invoice, tenant: Tenant) -> None:
    before = summary(statement(tenant, MONTH))
    RatingRun.objects.update(summary=[])
    invoice.period.run.months.all().delete()  # type: ignore[union-attr]
    costs.catch_up()
    assert summary(statement(tenant, MONTH)) == before


def test_the_invoice_is_read_with_all_that_is_on_it(
    invoice: Invoice, member: User, outsider: User, tenant: Tenant
) -> None:
    client = signed_in(member)
    listed = client.get("/usage/invoices/").content.decode()
    due = f"{invoice.payable:,.2f} EUR"  # with both of its decimals: 0.50, never 0.5
    for text in ("2026-11", "Closed", due):
        assert text in listed
    page = client.get("/usage/invoices/2026-11/").content.decode()
    for amount in (invoice.charges, invoice.credits, invoice.adjustment):
        assert f"{plain(amount)} EUR" in page
    for text in (due, invoice.number, invoice.sha256, "an outage", "included", "list", "web"):
        assert text in page
    Tenant.objects.update(name="Renamed")
    assert "Acme, 2026-11" in client.get("/usage/invoices/2026-11/").content.decode()
    for link in set(re.findall(r'href="(/usage/records/\?[^"]+)"', html.unescape(page))):
        assert client.get(link).status_code == 200, urlsplit(link)
    assert signed_in(outsider).get("/usage/invoices/2026-11/").status_code == 404
    assert invoice.number not in signed_in(outsider).get("/usage/invoices/").content.decode()
    assert client.get("/usage/invoices/2026-10/").status_code == 404
    assert client.get("/usage/invoices/soon/").status_code == 422


def test_figures_of_an_invoice_lead_to_what_is_on_it_and_not_to_what_came_late(
    container: Container, member: User, admin: User
) -> None:
    """A correction's to the records that it is of, in the month that it corrects."""
    published(CPU, MEMORY, OUT)
    use(container)
    periods.close(period().pk, NEXT)
    use(container, epoch=2, cpu=5 * 10**12, sent=0)
    rate_period(period(NEXT).pk)
    first, second = (sums_behind(signed_in(member), f"/usage/invoices/{month}/") for month in ("2026-11", "2026-12"))
    assert (first["CPU"], second["CPU"]) == ({7 * 10**12 + 1}, {5 * 10**12})
    assert first["MEM"] == second["MEM"] != {0}
    assert sums_behind(signed_in(admin), f"/admin/invoices/2026-12/?tenant={container.tenant_id}") == second


def sums_behind(client: Client, path: str) -> dict[str, set[int]]:
    """By SKU what the records sum to that its quantities and costs on an invoice lead to."""
    found: dict[str, set[int]] = {}
    page = html.unescape(client.get(path).content.decode())
    for row in re.findall(r"<tr>.*?</tr>", page.partition("</caption>")[2].partition("</table>")[0], re.DOTALL):
        links, sku = re.findall(r'href="([^"]+)"', row), re.search(r'<td class="mono">(\w+)</td>', row)
        if sku:
            assert len(links) == 2, row
        for link in links if sku else ():
            sums = client.get(link).context["totals"]
            found.setdefault(sku[1], set()).update(one.quantity for one in sums)
    return found


def test_lines_come_in_pages_that_meet(invoice: Invoice, member: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from console.metering.views import invoices as views

    monkeypatch.setattr(views, "SIZE", 7)
    client, path, seen = signed_in(member), "/usage/invoices/2026-11/", []
    while path:
        page = html.unescape(client.get(path).content.decode())
        seen += [int(number) for number in re.findall(r'<tr>\s*<td class="num end">(\d+)</td>', page)]
        found = re.search(r'href="(\?after=\d+)#lines"', page)
        path = f"/usage/invoices/2026-11/{found[1]}" if found else ""
    assert seen == list(range(1, invoice.period.run.lines_count + 1))  # type: ignore[union-attr]


def test_lines_as_csv_and_as_json_are_the_screen_s(invoice: Invoice, member: User) -> None:
    client = signed_in(member)
    Container.objects.update(name="=evil()")
    rows = list(csv.DictReader(io.StringIO(whole(client.get("/usage/invoices/2026-11/lines.csv")).decode())))
    found = json.loads(whole(client.get("/usage/invoices/2026-11/lines.json")))["lines"]
    assert len(rows) == len(found) == invoice.period.run.lines_count  # type: ignore[union-attr]
    assert total(*(Decimal(row["cost"]) for row in rows)) == invoice.charges
    assert [row["cost"] for row in rows] == [line["cost"] for line in found]
    for row in rows:
        assert Decimal(row["unit_price"]) * Decimal(row["quantity"]) == Decimal(row["cost"])
    focus = list(csv.DictReader(io.StringIO(whole(client.get("/usage/invoices/2026-11/focus-1.2.csv")).decode())))
    assert total(*(Decimal(row["BilledCost"]) for row in focus)) == invoice.payable
    assert client.get("/usage/invoices/2026-11/everything.exe").status_code == 404


def test_the_bundle_recomputes_itself_and_is_the_same_each_time(invoice: Invoice, member: User, tmp_path: Path) -> None:
    client = signed_in(member)
    content = whole(client.get("/usage/invoices/2026-11/verify-bill.zip"))
    assert content == whole(client.get("/usage/invoices/2026-11/verify-bill.zip"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "acme-2026-11"
    assert (folder / "bill.json").read_text().strip() == invoice.manifest
    ran = subprocess.run(
        [sys.executable, "verify_bill.py", "."], cwd=folder, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_an_admin_closes_a_month_or_reads_why_not(container: Container, admin: User, tenant: Tenant) -> None:
    use(container)
    published(CPU)
    client = signed_in(admin)
    Period.objects.update(ends_at=LATER)
    path = f"/admin/periods/{period().pk}/close/"
    refused = client.post(path, follow=True).content.decode()
    assert "has not ended yet" in refused
    assert not Invoice.objects.exists()
    assert not AuditEvent.objects.filter(verb="period.close").exists()


def test_closing_by_hand_is_in_the_audit_log_and_once(
    container: Container, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from console.metering.views import invoices as views

    use(container)
    published(CPU)
    monkeypatch.setattr(views.timezone, "now", lambda: NEXT)
    client = signed_in(admin)
    path = f"/admin/periods/{period().pk}/close/"
    assert "Closed: invoice 2026-11-" in client.post(path, follow=True).content.decode()
    client.post(path)
    invoice = Invoice.objects.get()
    event = AuditEvent.objects.get(verb="period.close")
    assert event.user == admin
    assert (event.target, event.data["sha256"]) == (invoice.number, invoice.sha256)


def test_credits_by_an_admin_once_and_with_a_reason(container: Container, admin: User, tenant: Tenant) -> None:
    use(container)
    published(CPU)
    client, path = signed_in(admin), f"/admin/periods/{period().pk}/credit/"
    given = {"amount": "1.50", "reason": "an outage", "request_key": "one"}
    for _ in range(2):
        assert "The credit was given" in client.post(path, given, follow=True).content.decode()
    assert Credit.objects.get().amount == Decimal("1.5")
    event = AuditEvent.objects.get(verb="period.credit")
    assert (event.user, event.tenant, event.target, event.data["amount"]) == (admin, tenant, "2026-11", "1.50")
    for wrong in ({"amount": "much"}, {"amount": "-1"}, {"amount": "0.001"}, {"reason": " "}):
        answer = client.post(path, {**given, "request_key": "two", **wrong})
        assert answer.status_code == 422
        page = answer.content.decode()
        assert 'id="credit-problem"' in page
        typed = {**given, **wrong}
        assert f'value="{typed["amount"]}"' in page, "what was typed is there still"
        assert f'value="{typed["reason"]}"' in page
    assert Credit.objects.count() == 1
    assert "an outage" in client.get(f"/admin/invoices/2026-11/?tenant={tenant.pk}").content.decode()


@pytest.mark.parametrize("month", ["0001-01", "9999-12", "2026-13", "soon"])
def test_a_month_that_is_none_is_refused_with_a_sentence(admin: User, month: str) -> None:
    answer = signed_in(admin).get(f"/admin/invoices/?month={month}")
    assert answer.status_code == 422
    assert "Write a month" in answer.content.decode()


def test_the_months_of_all_tenants_are_as_many_queries_as_one(container: Container, admin: User) -> None:
    use(container)
    published(CPU)
    rate_period(period().pk)
    client = signed_in(admin)

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/admin/invoices/?month=2026-11").status_code == 200
        return len(queries)

    asked()
    few = asked()
    for number in range(5):
        other = Tenant.objects.create(name=f"T{number}", slug=f"t{number}")
        use(
            Container.objects.create(
                tenant=other, node="n", name="w", image_reference="x", memory_bytes=1024, cpu_millis=1
            )
        )
    for one in Period.objects.all():
        rate_period(one.pk)
    assert asked() == few


# ------------------------------------------------------------------------------------------------ prices

BOOK = {
    "currency": "EUR", "valid_from": "2026-11-01T00:00:00Z",
    "prices": [
        {"sku": "CPU", "meter": "cpu", "unit": "Core-Seconds", "tiers": [["0", "0.00001"]]},
        {"sku": "MEM", "meter": "memory_limit", "unit": "GiB-Seconds", "included": "10", "tiers": [["0", "0.000002"]]},
    ],
}  # fmt: skip


def upload(client: Client, content: bytes | str, **more: str) -> object:
    data = content if isinstance(content, bytes) else content.encode()
    return client.post("/admin/prices/", {"file": SimpleUploadedFile("p.json", data), **more})


def test_a_book_is_uploaded_looked_at_and_then_published(admin: User, tenant: Tenant) -> None:
    client = signed_in(admin)
    answer = upload(client, json.dumps(BOOK))
    book = PriceBook.objects.get()
    assert answer.headers["Location"] == f"/admin/prices/{book.pk}/"  # type: ignore[attr-defined]
    assert book.published_at is None, "it does not count yet"
    page = client.get(f"/admin/prices/{book.pk}/").content.decode()
    for text in ("Draft", "0.00001", "0.0072", "Discard"):
        assert text in page
    for _ in range(2):
        assert "holds from" in client.post(f"/admin/prices/{book.pk}/publish/", follow=True).content.decode()
    again = json.loads(client.get(f"/admin/prices/{book.pk}/book.json").content)
    again["valid_from"] = "2026-12-01T00:00:00Z"
    upload(client, json.dumps(again), tenant=tenant.pk)
    contract = PriceBook.objects.get(tenant=tenant)
    assert contract.prices.count() == 2
    client.post(f"/admin/prices/{contract.pk}/discard/")
    assert list(PriceBook.objects.all()) == [book]
    refused = client.post(f"/admin/prices/{book.pk}/discard/", follow=True).content.decode()
    assert "cannot be changed" in refused
    assert [event.verb for event in AuditEvent.objects.filter(verb__startswith="prices.").order_by("pk")] == [
        "prices.draft", "prices.publish", "prices.draft", "prices.discard",
    ]  # fmt: skip


def changed(**changes: object) -> str:
    book = json.loads(json.dumps(BOOK))
    book["prices"][1].update(changes)
    return json.dumps(book)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "file"),
        (b"x" * ((1 << 20) + 1), "larger than 1 MiB"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "JSON object"),
        (json.dumps({**BOOK, "valid_from": "0001-01-01T00:00:00+14:00"}), "valid_from"),
        (json.dumps({**BOOK, "valid_from": "2026-11-01T00:30:00Z"}), "full hour"),
        (json.dumps({**BOOK, "currency": "EURO"}), "currency"),
        (json.dumps({**BOOK, "prices": [1]}), "price 1"),
        (changed(meter="gpu"), "price 2, MEM"),
        (changed(tiers=[["0", "x"]]), "price 2, MEM"),
        (changed(tiers=[[0, 1]]), "price 2, MEM"),
        (changed(included="0.00000000001"), "price 2, MEM"),
        (changed(sku=""), "price 2, ?"),
    ],
)
def test_a_bad_book_is_refused_by_its_field_and_nothing_is_stored(admin: User, content: bytes | str, said: str) -> None:
    answer = upload(signed_in(admin), content)
    assert answer.status_code == 422  # type: ignore[attr-defined]
    page = answer.content.decode()  # type: ignore[attr-defined]
    assert said in page
    assert "Nothing was stored" in page
    assert not PriceBook.objects.exists()


def test_no_file_and_no_such_tenant(admin: User) -> None:
    client = signed_in(admin)
    assert "Choose a JSON file" in client.post("/admin/prices/", {}).content.decode()
    assert upload(client, json.dumps(BOOK), tenant="nobody").status_code == 422  # type: ignore[attr-defined]
    assert not PriceBook.objects.exists()


def test_a_book_that_cannot_hold_stays_a_draft_and_says_why(invoice: Invoice, admin: User) -> None:
    made = files.draft_from_json(json.dumps(BOOK))
    page = signed_in(admin).post(f"/admin/prices/{made.pk}/publish/", follow=True).content.decode()
    assert "are closed" in page
    made.refresh_from_db()
    assert made.published_at is None
    with pytest.raises(Invalid):
        files.draft_from_json("[" * 100_000)
