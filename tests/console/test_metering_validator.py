"""The FinOps Foundation's own validator on our files.

It is read as it must be: it ends well even when rules fail, one pair of its rules contradicts itself, product rules run only where
ChargeClass is set, and an allowed value passes when any row has it, so it is run on the file, on a copy with ChargeClass set, and on
files of one row.
"""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path

import pytest

from console.accounts.models import Tenant
from console.metering.exports.focus import csv_chunks
from console.metering.services import credits, periods
from console.workloads.models import Container
from tests.console import focus_validator
from tests.console.focus_validator import Validator
from tests.console.test_metering_bills import CPU, MEMORY, NEXT, OUT, period, published, use

pytestmark = pytest.mark.slow
CONTRADICTION = {"InvoiceId-C-004-C"}
"""Null until invoiced and never null, says the model."""
OF_CORRECTIONS = {"ChargeClass-C-000-M", "ChargeClass-C-005-C"}
CRITERIA = ",".join(
    ("ACCOUNT_NAMING_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED", "PUBLIC_PRICE_LIST_SUPPORTED", "USAGE_MEASUREMENT_SUPPORTED",
     "UNIT_PRICING_SUPPORTED", "SUB_ACCOUNT_SUPPORTED", "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
     "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED", "REGION_SUPPORTED", "TAGGING_SUPPORTED")
)  # fmt: skip


@pytest.fixture(scope="session")
def validator() -> Validator:
    return focus_validator.validator()


def failures(validator: Validator, data: Path) -> set[str]:
    report = data.with_suffix(".xml")
    said = validator.run(
        data, report, "--validate-version", "1.2", "--block-download", "--focus-dataset", "CostAndUsage",
        "--applicability-criteria", CRITERIA,
    )  # fmt: skip
    assert report.exists(), said
    cases = list(ET.parse(report).getroot().iter("testcase"))
    assert len(cases) > 200, "it ran its rules"
    return {str(failure.get("name")) for case in cases for failure in case.iter("failure")}


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def rows(tenant: Tenant) -> list[dict[str, str]]:
    container = Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500
    )
    use(container)
    published(CPU, MEMORY, OUT)
    credits.give(period().pk, Decimal("0.05"), "an outage", key="k1")
    periods.close(period().pk, NEXT)
    return list(csv.DictReader("".join(csv_chunks(period(), "1.2")).splitlines(keepends=True)))


@pytest.mark.django_db
@pytest.mark.timeout(3000)
def test_the_official_validator_finds_nothing_but_its_own_contradiction(
    validator: Validator, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    assert failures(validator, written(tmp_path / "all.csv", rows)) <= CONTRADICTION
    classed = [{**row, "ChargeClass": "Correction"} for row in rows]
    assert failures(validator, written(tmp_path / "classed.csv", classed)) <= CONTRADICTION | OF_CORRECTIONS
    kinds = {row["ChargeCategory"]: row for row in rows}
    for kind in ("Usage", "Credit", "Adjustment"):
        assert failures(validator, written(tmp_path / f"{kind}.csv", [kinds[kind]])) <= CONTRADICTION, kind


@pytest.mark.django_db
@pytest.mark.timeout(3000)
def test_the_official_validator_would_find_a_wrong_file(
    validator: Validator, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    wrong = [{**row, "ChargeCategory": "Rent", "BillingCurrency": ""} for row in rows]
    found = failures(validator, written(tmp_path / "wrong.csv", wrong))
    assert any(name.startswith("ChargeCategory") for name in found)
    assert any(name.startswith("BillingCurrency") for name in found)
