"""Bills at their edges: currencies without cents and with thousandths, credits above the charges, tiers that are met exactly, prices
of hours that are over, a tenant and a container that get another name in the month.  Each is closed, exported, checked and recomputed.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from django.test import Client

from console.accounts.models import Tenant, User
from console.core.errors import Invalid
from console.metering import services
from console.metering.exports import bundle
from console.metering.exports.focus_check import faults
from console.metering.exports.focus_check_invoice import faults as invoice_faults
from console.metering.models import Credit, Invoice
from console.metering.services import credits, periods, prices
from console.metering.services.prices import BookDraft, PriceDraft
from console.metering.services.rating import rate_period
from console.metering.splitting import HOUR, hour_of
from console.workloads.models import Container
from launcher import verify_bill
from tests.console.test_metering import START
from tests.console.test_metering_bills import CPU, MONTH, NEXT, period, published, use
from tests.console.test_metering_exports import differences
from tests.console.test_metering_ingest import observed

pytestmark = pytest.mark.django_db
S = 10**9


@pytest.fixture
def billed(tmp_path: Path) -> Callable[[], tuple[Invoice, list[dict[str, str]]]]:
    """Closes the month; nothing is wrong with any of its files, and the sum of what is billed is payable."""

    def done() -> tuple[Invoice, list[dict[str, str]]]:
        invoice = periods.close(period().pk, NEXT)
        folder = tmp_path / "november"
        bundle.write(period(), folder)
        assert differences(folder, given=invoice.sha256) == []
        for version in ("1.2", "1.3"):
            with (folder / f"focus-{version}.csv").open(encoding="utf-8", newline="") as lines:
                assert list(faults(lines, version)) == []
        for dataset, name in bundle.INVOICING.items():
            with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
                assert list(invoice_faults(lines, dataset)) == []
        with (folder / "focus-1.3.csv").open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert sum(Decimal(row["BilledCost"]) for row in rows) == invoice.payable
        return invoice, rows

    return done


Billed = Callable[[], tuple[Invoice, list[dict[str, str]]]]


@pytest.mark.parametrize(
    ("currency", "payable"), [("JPY", "86"), ("KWD", "86.1"), ("EUR", "86.1"), ("CLF", "")], ids=str
)
def test_an_invoice_is_rounded_to_its_currency(
    container: Container, billed: Billed, currency: str, payable: str
) -> None:
    use(container, cpu=7000 * S + 123)
    book = BookDraft(currency, MONTH, (replace(CPU, tiers=(("0", "0.0123"),), included="0"),))
    if not payable:
        with pytest.raises(Invalid):
            prices.draft(book)
        return
    prices.publish(prices.draft(book).pk)
    invoice, rows = billed()
    assert (str(invoice.payable.normalize()), invoice.currency) == (payable, currency)
    (rounding,) = [Decimal(row["BilledCost"]) for row in rows if row["ChargeCategory"] == "Adjustment"]
    assert rounding == invoice.adjustment == invoice.payable - invoice.charges


def test_half_a_unit_is_rounded_to_the_even_one(container: Container, billed: Billed) -> None:
    use(container, cpu=5 * S)
    prices.publish(
        prices.draft(BookDraft("JPY", MONTH, (PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.5"),)),))).pk
    )
    assert billed()[0].payable == 2


def test_credits_above_the_charges_are_owed_to_the_tenant(container: Container, member: User, billed: Billed) -> None:
    use(container)
    published(CPU)
    credits.give(period().pk, Decimal("1000"), " an outage ", key="k")
    assert Credit.objects.get().reason == "an outage"
    invoice, _rows = billed()
    assert -1000 < invoice.payable < -990
    client = Client()
    client.force_login(member)
    page = client.get("/usage/invoices/2026-11/").content.decode()
    assert "Owed to the tenant" in page
    assert f"{-invoice.payable:,.2f} EUR" in page
    assert f"-{-invoice.payable:,.2f}" not in page, "owed and below zero at once is the contrary"
    assert "To pay" not in page
    assert f"−{-invoice.payable:,.2f} EUR" in client.get("/usage/invoices/").content.decode()


@pytest.mark.parametrize(
    ("amount", "reason", "field"),
    [
        ("1000000000000", "much", "amount"), ("1e90", "more", "amount"), ("Infinity", "all", "amount"),
        ("1", "r" * 201, "reason"), ("1", "two\nlines", "reason"),
    ],
)  # fmt: skip
def test_a_credit_that_makes_no_sense_is_refused_by_its_field(
    container: Container, amount: str, reason: str, field: str
) -> None:
    use(container)
    published(CPU)
    with pytest.raises(Invalid) as refused:
        credits.give(period().pk, Decimal(amount), reason, key="k")
    assert refused.value.field == field
    assert not Credit.objects.exists()


def test_a_tier_that_is_met_exactly_makes_no_empty_line(container: Container, billed: Billed) -> None:
    """100 core-seconds are included, the next 3,600 cost less than those behind them."""
    looks = [observed(container, 60, cpu_ns=100 * S), observed(container, 3600 - 60, cpu_ns=100 * S)]
    services.take(looks)
    use(container, cpu=3700 * S)
    published(CPU)
    _invoice, rows = billed()
    cpu = [(row["x_Tier"], Decimal(row["PricingQuantity"])) for row in rows if row["SkuId"] == "CPU"]
    assert all(quantity for _tier, quantity in cpu)
    assert {tier for tier, _quantity in cpu} == {"i/i", "0/0"}
    assert sum(quantity for _tier, quantity in cpu) == 3700


def test_prices_of_hours_that_are_over_hold_from_their_hour_on(container: Container, billed: Billed) -> None:
    use(container)
    published(CPU)
    before = rate_period(period().pk).total
    published(replace(CPU, tiers=(("0", "1"),)), valid_from=hour_of(START) + HOUR)
    after = rate_period(period().pk)
    assert after.total > before
    assert {line.unit_price for line in after.lines.filter(window=hour_of(START))} <= {Decimal(0), Decimal("0.0000123")}
    billed()


def test_another_name_of_the_tenant_alters_no_earlier_row(container: Container, tenant: Tenant, billed: Billed) -> None:
    services.take([observed(container, 60 * n, cpu_ns=n * S) for n in range(1, 200)])
    Tenant.objects.filter(pk=tenant.pk).update(name="Ajax")
    Container.objects.filter(pk=container.pk).update(name="shop", labels={"team": "a"})
    use(container)
    published(CPU)
    rate_period(period().pk)
    _invoice, rows = billed()
    names = {
        (row["SubAccountName"], row["ResourceName"], row["Tags"]) for row in rows if row["ChargeCategory"] == "Usage"
    }
    assert names == {("Acme", "web", "{}"), ("Ajax", "shop", '{"team": "a"}')}
    assert {row["SubAccountId"] for row in rows} == {tenant.pk}


def test_labels_as_long_as_they_may_be_are_read_by_the_program_too(
    container: Container, tenant: Tenant, tmp_path: Path
) -> None:
    """In ASCII each of these letters is six: more than a cell has that Python's csv reads by itself."""
    labels = {"note": "ы" * 30_000}
    Container.objects.filter(pk=container.pk).update(labels=labels)
    container.refresh_from_db()
    use(container)
    published(CPU)
    periods.close(period().pk, NEXT)
    folder = tmp_path / "november"
    bundle.write(period(), folder)
    assert verify_bill.main([str(folder)]) == 0
