"""BillingPeriod and InvoiceDetail: the invoice's rows in FOCUS, to the last digit what CostAndUsage sums to."""

from __future__ import annotations

import csv
import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pytest

from console.metering.exports import bundle
from console.metering.exports.focus_check_invoice import faults, unreconciled
from console.metering.exports.focus_invoice import COLUMNS, Dataset, csv_chunks
from console.metering.models import Period
from console.metering.services import credits, periods
from console.metering.services.rating import rate_period
from console.metering.units import total
from console.workloads.models import Container
from launcher import verify_bill
from tests.console.test_metering_bills import CPU, LATER, MEMORY, MONTH, NEXT, OUT, period, published, use

pytestmark = pytest.mark.django_db
DETAIL, PERIOD = "focus-1.4-invoice-detail", "focus-1.4-billing-period"


@pytest.fixture
def november(container: Container, tmp_path: Path) -> Path:
    use(container)
    published(CPU, MEMORY, OUT)
    credits.give(period().pk, Decimal("0.05"), "an outage", key="k1")
    periods.close(period().pk, NEXT)
    bundle.write(period(), tmp_path / "november")
    return tmp_path / "november"


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / f"{name}.csv").open(newline="")))


def wrong(folder: Path) -> list[str]:
    files = [(folder / f"{name}.csv").open(newline="") for name in (DETAIL, "focus-1.3", PERIOD)]
    of_each = [*faults(files[0], "InvoiceDetail"), *faults(files[2], "BillingPeriod")]
    for file in files:
        file.seek(0)
    return [*of_each, *unreconciled(*files)]


def test_the_rows_of_the_invoice_sum_to_what_is_payable_and_to_cost_and_usage(november: Path) -> None:
    assert wrong(november) == []
    found = rows(november, DETAIL)
    invoice = period().invoice
    assert total(*(Decimal(row["BilledCost"]) for row in found)) == invoice.payable
    assert {row["ChargeCategory"] for row in found} == {"Usage", "Credit", "Adjustment"}
    assert {row["InvoiceId"] for row in found} == {row["ReferenceInvoiceId"] for row in found} == {invoice.number}
    (row,) = rows(november, PERIOD)
    assert row["BillingPeriodStatus"] == "Closed"
    assert row["BillingPeriodStart"] == "2026-11-01T00:00:00Z"
    grains = [json.loads(row["InvoiceDetailGrain"]) for row in found if row["ChargeCategory"] == "Usage"]
    of_usage = {(one["SkuPriceId"], one["SkuMeter"]) for one in grains}
    assert of_usage == {(r["SkuPriceId"], r["SkuMeter"]) for r in rows(november, "focus-1.3") if r["SkuPriceId"]}
    assert verify_bill.verify(verify_bill.Bundle.read(november)) == []


def test_the_schemas_are_of_the_columns_and_name_their_data_set(november: Path) -> None:
    for name, dataset in ((DETAIL, "InvoiceDetail"), (PERIOD, "BillingPeriod")):
        form = json.loads((november / f"{name}-schema.json").read_text())
        assert form["FocusVersion"] == "1.4"
        assert form["DatasetInstance"][0]["FocusDatasetId"] == dataset
        assert [one["ColumnName"] for one in form["ColumnDefinition"]] == list(COLUMNS[dataset])
        kinds = {one["ColumnName"]: one["DataType"] for one in form["ColumnDefinition"]}
        assert {kinds[column] for column in kinds if column.endswith(("Cost", "Price", "Quantity"))} <= {"DECIMAL"}
        assert kinds["BillingPeriodStart"] == "DATETIME"
    assert "DatasetInstance" not in json.loads((november / "focus-1.2-schema.json").read_text())


def test_a_correction_names_the_invoice_that_it_changes(november: Path, container: Container) -> None:
    use(container, epoch=3)
    periods.close(period(NEXT).pk, LATER)
    december = november.with_name("december")
    bundle.write(period(NEXT), december)
    assert wrong(december) == []
    corrections = [row for row in rows(december, DETAIL) if "x_CorrectedPeriodStart" in row["InvoiceDetailGrain"]]
    assert corrections
    assert {row["ReferenceInvoiceId"] for row in corrections} == {period().invoice.number}
    assert {row["InvoiceId"] for row in corrections} == {period(NEXT).invoice.number}


def test_an_open_period_is_open_and_has_no_invoice(container: Container, tmp_path: Path) -> None:
    use(container)
    published(CPU)
    rate_period(period().pk)
    bundle.write(period(), tmp_path / "so-far")
    assert rows(tmp_path / "so-far", DETAIL) == []
    (row,) = rows(tmp_path / "so-far", PERIOD)
    assert (row["BillingPeriodStatus"], row["BillingPeriodLastUpdated"]) == ("Open", row["BillingPeriodCreated"])
    assert verify_bill.verify(verify_bill.Bundle.read(tmp_path / "so-far")) == []


def test_a_period_of_before_creations_were_kept_begins_with_its_month(november: Path) -> None:
    Period.objects.update(created_at=None)
    (row,) = csv.DictReader("".join(csv_chunks(period(), "BillingPeriod")).splitlines())
    assert row["BillingPeriodCreated"] == f"{MONTH:%Y-%m-%dT%H:%M:%SZ}"
    Period.objects.update(created_at=NEXT + dt.timedelta(days=3))
    lines = "".join(csv_chunks(period(), "BillingPeriod")).splitlines(keepends=True)
    assert list(faults(lines, "BillingPeriod")) == []


@pytest.mark.parametrize(
    ("dataset", "column", "value", "told"),
    [
        ("InvoiceDetail", "BilledCost", "4", "no decimal"),
        ("InvoiceDetail", "BilledCost", "", "BilledCost is null"),
        ("InvoiceDetail", "PaymentTerms", "", "PaymentTerms is null"),
        ("InvoiceDetail", "ChargeCategory", "Rent", "ChargeCategory"),
        ("InvoiceDetail", "InvoiceIssueStatus", "issued", "InvoiceIssueStatus"),
        ("InvoiceDetail", "InvoiceIssueDate", "", "InvoiceIssueDate"),
        ("InvoiceDetail", "InvoiceIssueDate", "2026-12-01", "InvoiceIssueDate"),
        ("InvoiceDetail", "BillingCurrency", "EUX", "ISO 4217"),
        ("InvoiceDetail", "InvoiceDetailLastUpdated", "2020-01-01T00:00:00Z", "before"),
        ("InvoiceDetail", "InvoiceDetailGrain", '{"a": {}}', "flat JSON"),
        ("InvoiceDetail", "InvoiceDetailGrain", '{"Sku": "A"}', "key Sku"),
        ("InvoiceDetail", "InvoiceDetailId", "same", "twice"),
        ("InvoiceDetail", "InvoiceDetailDescription", "null", "null either"),
        ("BillingPeriod", "BillingPeriodStatus", "open", "BillingPeriodStatus"),
        ("BillingPeriod", "BillingPeriodEnd", "2026-10-01T00:00:00Z", "not after"),
        ("BillingPeriod", "BillingPeriodCreated", "2026-13-01T00:00:00Z", "BillingPeriodCreated"),
    ],
)
def test_the_checker_names_what_is_wrong(november: Path, dataset: Dataset, column: str, value: str, told: str) -> None:
    found = rows(november, DETAIL if dataset == "InvoiceDetail" else PERIOD)
    for row in found[:2]:
        row[column] = value
    lines = [",".join(found[0])] + [",".join('"' + c.replace('"', '""') + '"' for c in row.values()) for row in found]
    said = list(faults((f"{line}\r\n" for line in lines), dataset))
    assert any(told in one for one in said), said


def test_what_does_not_reconcile_is_named_by_the_checker_and_by_verify_bill(november: Path) -> None:
    path = november / f"{DETAIL}.csv"
    invoiced = next(row["BilledCost"] for row in rows(november, DETAIL) if row["BilledCost"] != "0.0")
    path.write_text(path.read_text().replace(invoiced, "7.0", 1), newline="")
    assert any("sums to" in one for one in wrong(november))
    said = verify_bill.verify(verify_bill.Bundle.read(november))
    assert any(one.startswith("manifest") for one in said)
    assert any(one.startswith(f"{DETAIL}.csv: BilledCost") for one in said)
