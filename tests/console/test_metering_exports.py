"""What leaves the house: the same bytes each time, right by FOCUS, recomputable; a change anywhere in it is named."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.db.models import Sum

from console.core.errors import Invalid
from console.metering import services
from console.metering.exports import bundle, parquet
from console.metering.exports.focus import NUMBERS, csv_chunks
from console.metering.exports.focus_check import faults
from console.metering.models import Meter, RatedLine, UsageRecord
from console.metering.services import credits, periods, records, resources
from console.metering.services.prices import PriceDraft
from console.metering.services.rating import rate_period
from console.metering.splitting import HOUR
from console.metering.units import UNITS, total
from console.workloads.models import Container
from launcher import verify_bill
from launcher.__main__ import main as slipway
from tests.console.test_metering import START, at, final
from tests.console.test_metering_bills import CPU, LATER, MEMORY, MONTH, NEXT, OUT, period, published, use
from tests.console.test_metering_ingest import observed


@pytest.fixture
def lived(container: Container) -> Container:
    """A month with all that may happen: hours, a rename, silence, a counter that went back, a clock that did, a loss, ports."""
    services.hold_ports(container, 2, START)
    looks = [observed(container, 60 * n, cpu_ns=n * 10**9 + n % 3, net_tx_bytes=n * 10**7) for n in range(100)]
    looks[20] = replace(looks[20], values={**looks[20].values, Meter.NET_TX: None})
    looks[40] = replace(looks[40], values={**looks[40].values, Meter.NET_TX: 5})
    looks[60] = replace(looks[60], at_us=looks[60].at_us - 3_600_000_000)
    services.take(looks[:50])
    Container.objects.filter(pk=container.pk).update(name="renamed")
    services.take(looks[50:])
    services.ingest_final(final(container, at(6100, cpu_ns=10**13, net_tx_bytes=3 * 10**9, block_read_bytes=None)))
    second = [replace(observed(container, 7000 + 60 * n, cpu_ns=n * 10**9), epoch=2, started_us=int((START.timestamp() + 6900) * 10**6))
              for n in range(20)]  # fmt: skip
    services.take(second)
    services.close_lost("n", {}, START + 10 * HOUR)
    services.release_ports(container, START + 3 * HOUR)
    published(CPU, MEMORY, OUT)
    return container


@pytest.fixture
def exported(lived: Container, tmp_path: Path) -> Path:
    credits.give(period().pk, Decimal("0.01"), "an outage", key="k1")
    periods.close(period().pk, NEXT)
    bundle.write(period(), tmp_path / "november")
    return tmp_path / "november"


def differences(folder: Path, *earlier: Path, given: str = "") -> list[str]:
    before = [verify_bill.Bundle.read(one) for one in earlier]
    return verify_bill.verify(verify_bill.Bundle.read(folder), before, given)


def consistent(folder: Path) -> None:
    """As a forger would: the hashes of the changed files are made to fit, down to the bill's."""
    bill = json.loads((folder / "bill.json").read_text())
    for name in verify_bill.STREAMS:
        data = (folder / f"{name}.jsonl").read_bytes()
        bill["streams"][name] = {"lines": data.count(b"\n"), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "bill.json").write_text(json.dumps(bill, sort_keys=True, separators=(",", ":")) + "\n")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        manifest["files"][name]["sha256"] = verify_bill.sha256(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def changed(folder: Path, name: str, chosen: Callable[[dict[str, object]], bool], **changes: object) -> None:
    lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    found = next(line for line in lines if chosen(line))
    found.update(changes)
    text = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)
    (folder / name).write_text(text)


@pytest.mark.django_db
def test_an_export_is_whole_right_and_twice_the_same(exported: Path) -> None:
    assert differences(exported) == []
    again = exported.with_name("again")
    bundle.write(period(), again)
    for path in exported.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    with pytest.raises(Invalid, match="again"):
        bundle.write(period(), again)


def older_id(source: str, meter: str, parts: tuple[str, str]) -> str:
    """As ids were before they began with the hour."""
    return hashlib.sha256(f"{source}|{meter}{parts[1]}".encode()).hexdigest()


@pytest.mark.django_db
def test_an_interval_that_is_billed_by_both_of_its_ids_is_named(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: dict[str, str] = {}
    newer = records.record_id

    def both(*of: Any) -> str:
        id = newer(*of)
        ids[id] = older_id(*of)
        return id

    monkeypatch.setattr(records, "record_id", both)
    services.take(observed(container, 600 * n, cpu_ns=n * 10**9) for n in range(20))
    services.close_lost("n", {}, START + 10 * HOUR)
    published(CPU)
    again = UsageRecord.objects.filter(meter=Meter.CPU, quantity__gt=0).order_by("pk")[0]
    again.pk, again.quantity = ids[again.pk], again.quantity * 7
    again.save(force_insert=True)
    rate_period(period().pk)
    bundle.write(period(), tmp_path / "november")
    assert any("twice" in one and again.pk in one for one in differences(tmp_path / "november"))


@pytest.mark.django_db
def test_records_from_before_their_ids_began_with_the_hour_are_recomputed(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A month in which a home was renewed has both."""
    looks = [observed(container, 600 * n, cpu_ns=n * 10**9) for n in range(20)]
    with monkeypatch.context() as old:
        old.setattr(records, "record_id", older_id)
        services.take(looks[:10])
    services.take(looks[10:])
    services.close_lost("n", {}, START + 10 * HOUR)
    published(CPU)
    rate_period(period().pk)
    bundle.write(period(), tmp_path / "november")
    assert differences(tmp_path / "november") == []
    changed(tmp_path / "november", "records.jsonl", lambda one: one["meter"] == "cpu", quantity=1)
    consistent(tmp_path / "november")
    assert any(one.startswith("records") for one in differences(tmp_path / "november"))


@pytest.mark.django_db
def test_the_program_stands_alone(exported: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-S", str(exported / "verify_bill.py"), str(exported)],
        check=False, capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Everything follows" in ran.stdout
    assert slipway(["verify-bill", str(exported), "--sha256", period().invoice.sha256]) == 0
    assert slipway(["verify-bill", str(exported), "--sha256", "0" * 64]) == 1
    changed(exported, "readings.jsonl", lambda one: one["value"] is not None and one["final"], value=1)
    ran = subprocess.run([sys.executable, "-I", "-S", str(exported / "verify_bill.py"), str(exported)],
                         check=False, capture_output=True, text=True, cwd="/")  # fmt: skip
    assert ran.returncode == 1
    assert "readings.jsonl" in ran.stdout
    ran = subprocess.run([sys.executable, "-I", "-S", str(exported / "verify_bill.py"), "/nowhere"],
                         check=False, capture_output=True, text=True, cwd="/")  # fmt: skip
    assert ran.returncode == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "chosen", "changes", "told"),
    [
        ("readings.jsonl", lambda one: one["meter"] == "cpu" and one["final"], {"value": 9 * 10**12}, "records"),
        ("records.jsonl", lambda one: one["meter"] == "cpu" and one["quantity"], {"quantity": 1}, "records"),
        ("records.jsonl", lambda one: one["meter"] == "published_port", {"quantity": 1}, "records"),
        ("records.jsonl", lambda one: one["meter"] == "published_port", {"meter": "cpu_limit"}, "records"),
        (
            "records.jsonl",
            lambda one: one["meter"] == "published_port",
            {"window": "2026-11-01T00:00:00.000000Z"},
            "records",
        ),
        ("records.jsonl", lambda one: one["meter"] == "published_port", {"resource": "another's"}, "records"),
        ("records.jsonl", lambda one: one["meter"] == "cpu", {"resource": "another's"}, "records"),
        ("records.jsonl", lambda one: one["meter"] == "cpu", {"resource": 2**70}, "records"),
        ("resources.jsonl", lambda one: True, {"identity": "another"}, "records"),
        ("records.jsonl", lambda one: one["meter"] == "cpu", {"id": "0" * 64}, "records"),
        ("records.jsonl", lambda one: one["meter"] == "block_write", {"meter": "block_red"}, "records"),
        ("records.jsonl", lambda one: one["meter"] == "cpu", {"from_sequence": 7}, "records"),
        ("allocations.jsonl", lambda one: True, {"ended_at": "2026-11-24T09:00:00.000000Z"}, "records"),
        ("allocations.jsonl", lambda one: True, {"started_at": "2026-11-22T09:00:00.000000Z"}, "records"),
        ("prices.jsonl", lambda one: True, {"sha256": "0" * 64}, "prices"),
        ("lines.jsonl", lambda one: one["cost"] != "0", {"cost": "0"}, "lines"),
        ("lines.jsonl", lambda one: True, {"unit_price": "1"}, "lines"),
        ("credits.jsonl", lambda one: True, {"amount": "5"}, "invoice"),
        ("epochs.jsonl", lambda one: True, {"cpu_millis": 1}, "records"),
    ],
)
def test_a_change_is_named_even_where_all_hashes_were_made_to_fit(
    exported: Path, name: str, chosen: Callable[[dict[str, object]], bool], changes: dict[str, object], told: str
) -> None:
    honest = verify_bill.Bundle.read(exported).sha256
    changed(exported, name, chosen, **changes)
    assert any(one.startswith("manifest") for one in differences(exported))
    consistent(exported)
    found = differences(exported, given=honest)
    assert found[0].startswith("bill: its hash")
    assert any(one.startswith(told) for one in found), found


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("EffectiveCost", "4.0"), ("ContractedCost", "4.0"), ("ContractedUnitPrice", "4.0"), ("ListUnitPrice", ""),
        ("ConsumedQuantity", "4.0"), ("PricingUnit", "GB"), ("SkuId", "OTHER"), ("ResourceId", "another"),
        ("ResourceName", "another"), ("ChargePeriodStart", "2026-11-01T00:00:00Z"), ("ChargePeriodEnd", "2026-11-01T00:00:00Z"),
        ("BillingCurrency", "USD"), ("InvoiceId", ""), ("ChargeClass", "Correction"), ("Tags", '{"team": "b"}'),
        ("ChargeCategory", "Purchase"), ("BillingPeriodStart", "2026-10-01T00:00:00Z"), ("SubAccountId", "another"),
        ("SubAccountName", "another"), ("BillingAccountName", "another"), ("RegionId", "another"), ("RegionName", ""),
        ("ResourceType", "Volume"), ("SkuPriceId", "CPU-7"), ("SkuPriceDetails", "{}"), ("PricingCurrency", "USD"),
        ("PricingCurrencyEffectiveCost", "4.0"), ("PricingCurrencyListUnitPrice", ""), ("x_Image", "another"),
        ("PricingCurrencyContractedUnitPrice", "4.0"), ("x_PriceBook", "list-7"), ("x_Quality", "sure"), ("x_Tier", ""),
    ],
)  # fmt: skip
def test_a_change_of_a_focus_row_is_named_even_where_the_hashes_were_made_to_fit(
    exported: Path, column: str, value: str
) -> None:
    for version in ("1.2", "1.3"):
        path = exported / f"focus-{version}.csv"
        rows = list(csv.DictReader(path.open(newline="")))
        rows[4][column] = value
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    consistent(exported)
    assert [one.split(" is ", 1)[0] for one in differences(exported)] == [
        f"focus-{version}.csv: row 6: {column}" for version in ("1.2", "1.3")
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "column"),
    [
        *(("price-list.csv", one) for one in ("UnitPrice", "From", "SkuId", "PricingUnit", "ValidFrom", "PriceBook")),
        *(
            ("focus-1.4-invoice-detail.csv", one)
            for one in ("BilledCost", "InvoiceDetailGrain", "x_PricingQuantity", "x_UnitPrice", "x_ListCost", "InvoiceId",
                        "BillingCurrency", "x_PricingUnit")
        ),
    ],
)  # fmt: skip
def test_a_change_of_the_price_list_or_of_the_invoice_s_rows_is_named(exported: Path, name: str, column: str) -> None:
    """Also where another row evens out what it costs."""
    path = exported / name
    rows = list(csv.DictReader(path.open(newline="")))
    was = rows[1][column]
    odd = {"ValidFrom": "2026-10-01T00:00:00.000000Z", "InvoiceDetailGrain": "{}"}
    rows[1][column] = odd.get(column, f"{rows[1][column]}1")
    if column == "BilledCost":
        rows[2][column] = str(Decimal(rows[2][column]) + Decimal(was) - Decimal(rows[1][column]))
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    consistent(exported)
    assert any(one.startswith(f"{name}: row") for one in differences(exported))


@pytest.mark.django_db
def test_a_credit_that_was_moved_into_the_rounding_is_named(exported: Path) -> None:
    """The sum stays what is payable."""
    path = exported / "focus-1.2.csv"
    rows = list(csv.DictReader(path.open(newline="")))
    for row in rows:
        if row["ChargeCategory"] in {"Credit", "Adjustment"}:
            by = Decimal("-0.5") if row["ChargeCategory"] == "Credit" else Decimal("0.5")
            row["BilledCost"] = str(Decimal(row["BilledCost"]) + by)
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    consistent(exported)
    assert len(differences(exported)) == 2


@pytest.mark.django_db
def test_a_record_or_a_reading_that_was_taken_out_is_named(exported: Path) -> None:
    for name, chosen in (("records.jsonl", '"meter":"cpu"'), ("readings.jsonl", '"meter":"cpu"')):
        folder = exported.with_name(name)
        shutil.copytree(exported, folder)
        lines = (folder / name).read_text().splitlines(keepends=True)
        lines.remove(next(line for line in lines if chosen in line and '"value":0' not in line))
        (folder / name).write_text("".join(lines))
        consistent(folder)
        assert differences(folder), name


@pytest.mark.django_db
def test_records_readings_and_resources_in_any_order_are_recomputed(exported: Path) -> None:
    """Lines are billed in their order: one that is out of it is named."""
    luck = random.Random(1)

    def shuffled(name: str) -> None:
        lines = (exported / name).read_text().splitlines(keepends=True)
        luck.shuffle(lines)
        (exported / name).write_text("".join(lines))

    for name in ("records", "readings", "resources", "epochs", "allocations"):
        shuffled(f"{name}.jsonl")
    assert differences(exported)
    consistent(exported)
    assert differences(exported) == []
    shuffled("lines.jsonl")
    consistent(exported)
    assert any(one.startswith("lines") for one in differences(exported))


RENAMED = {
    "resources": ("id", "identity"), "epochs": ("id", "container"), "allocations": ("id", "resource"), "readings": ("epoch",),
    "records": ("id", "epoch", "allocation", "resource"), "lines": ("resource",),
}  # fmt: skip


def multiplied(folder: Path, into: Path, times: int) -> None:
    """All of it under so many names.  That ids of records do not follow from these is told of each, so it ends with differences."""
    shutil.copytree(folder, into)
    for stream, names in RENAMED.items():
        with (into / f"{stream}.jsonl").open("w") as made:
            for line in (folder / f"{stream}.jsonl").read_text().splitlines():
                one = json.loads(line)
                for number in range(times):
                    made.write(json.dumps(one | {name: one[name] and f"{one[name]}-{number}" for name in names}) + "\n")
    for version in ("1.2", "1.3"):
        head, *rows = (folder / f"focus-{version}.csv").read_text().splitlines(keepends=True)
        (into / f"focus-{version}.csv").write_text(head + "".join(row * times for row in rows))


PEAK = """
import re, sys
sys.path.insert(0, sys.argv[1])
import verify_bill
code = verify_bill.main(sys.argv[2:])
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.django_db
def test_recomputing_takes_no_more_memory_for_more_records(exported: Path) -> None:
    peaks = []
    for times in (40, 160):
        folder = exported.with_name(f"times-{times}")
        multiplied(exported, folder, times)
        ran = subprocess.run([sys.executable, "-I", "-S", "-c", PEAK, str(exported), str(folder)],
                             check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert ran.returncode == 1, ran.stderr
        peaks.append(int(ran.stderr))
    count = (folder / "records.jsonl").read_bytes().count(b"\n")
    assert count > 20_000
    assert peaks[1] - peaks[0] < count / 2, "in KiB: a record alone would be more than one"


@pytest.mark.django_db
def test_that_there_is_no_room_for_what_is_sorted_is_told(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_index: verify_bill.Index) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(verify_bill.Index, "take_records", full)
    assert verify_bill.main([str(exported)]) == 2
    assert "room" in capsys.readouterr().err


@pytest.mark.django_db
def test_a_price_that_was_changed_is_named(exported: Path) -> None:
    text = (exported / "prices.jsonl").read_text()
    (exported / "prices.jsonl").write_text(text.replace("0.0000017", "0.0000018"))
    consistent(exported)
    found = differences(exported)
    assert any(one.startswith("prices") for one in found)
    assert any("unit_price" in one for one in found)


@pytest.mark.django_db
def test_corrections_are_recomputed_with_the_earlier_export(exported: Path, lived: Container) -> None:
    use(lived, epoch=3)
    periods.close(period(NEXT).pk, LATER)
    december = exported.with_name("december")
    bundle.write(period(NEXT), december)
    assert period(NEXT).run.lines.filter(correction=True).exists()  # type: ignore[union-attr]
    assert differences(december, exported) == []
    assert any("--with" in one for one in differences(december))
    plain = (december / "lines.jsonl").read_bytes()
    for name in ("cost", "list_cost"):
        changed(december, "lines.jsonl", lambda one: one["correction"] is True, **{name: "7"})
        consistent(december)
        assert any(one.startswith("corrections") for one in differences(december, exported)), name
        (december / "lines.jsonl").write_bytes(plain)
        consistent(december)
    earlier = exported.with_name("forged")
    shutil.copytree(exported, earlier)
    changed(earlier, "lines.jsonl", lambda one: True, cost="7")
    assert f"{earlier}: bill: lines.jsonl is not what the invoice was made from" in differences(december, earlier)
    for version in ("1.2", "1.3"):
        assert list(faults((december / f"focus-{version}.csv").open(newline=""), version)) == []


@pytest.mark.django_db
def test_a_container_that_runs_over_the_month_s_end_is_billed_once(container: Container, tmp_path: Path) -> None:
    begin = (NEXT - START).total_seconds() - 7000
    looks = [
        replace(observed(container, begin + 60 * n, cpu_ns=n * 10**10, net_tx_bytes=n * 10**8), epoch=4,
                started_us=round((START.timestamp() + begin) * 10**6))
        for n in range(200)
    ]  # fmt: skip
    services.take(looks)
    published(CPU, MEMORY, OUT)
    invoices = []
    for month, closed in ((period(), NEXT + HOUR), (period(NEXT), LATER)):
        if month == period(NEXT):
            last = final(container, at(begin + 12_500, cpu_ns=3 * 10**12, net_tx_bytes=3 * 10**10), epoch=4)
            services.ingest_final(replace(last, started_at=START.timestamp() + begin))
        invoices.append(periods.close(month.pk, closed))
        bundle.write(month, tmp_path / f"{month.starts_at:%m}")
    assert differences(tmp_path / "11") == []
    assert differences(tmp_path / "12", tmp_path / "11") == []
    counted = UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"]
    assert counted == 3 * 10**12
    assert invoices[1].previous_sha256 == invoices[0].sha256


@pytest.mark.django_db
def test_focus_rows_are_right_and_sum_to_the_invoice(exported: Path) -> None:
    for version in ("1.2", "1.3"):
        path = exported / f"focus-{version}.csv"
        assert list(faults(path.open(newline=""), version)) == []
        rows = list(csv.DictReader(path.open(newline="")))
        assert {"Usage", "Credit", "Adjustment"} == {row["ChargeCategory"] for row in rows}
        assert total(*(Decimal(row["BilledCost"]) for row in rows)) == period().invoice.payable
        assert {row["ResourceName"] for row in rows if row["ResourceName"]} == {"web", "renamed"}
        table = pq.read_table(exported / f"focus-{version}.parquet")
        assert table.column_names == list(rows[0])
        for name in ("BilledCost", "PricingQuantity", "ResourceName", "ListUnitPrice"):
            of_csv = [row[name] or None for row in rows]
            of_parquet = table.column(name).to_pylist()
            if name != "ResourceName":
                of_csv = [None if cell is None else Decimal(cell) for cell in of_csv]
            assert of_parquet == of_csv
        form = json.loads((exported / f"focus-{version}-schema.json").read_text())
        assert [column["ColumnName"] for column in form["ColumnDefinition"]] == list(rows[0])
    listed = {row["SkuPriceId"]: row for row in csv.DictReader((exported / "price-list.csv").open(newline=""))}
    assert {row["SkuPriceId"] for row in rows if row["SkuPriceId"]} <= set(listed)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("BilledCost", "4", "no decimal"),
        ("BilledCost", "", "BilledCost is null"),
        ("ListCost", "1.0", "ListUnitPrice x PricingQuantity"),
        ("ChargeCategory", "usage", "ChargeCategory"),
        ("ChargePeriodStart", "2026-11-23 20:00:00", "ChargePeriodStart"),
        ("ChargePeriodEnd", "2026-11-01T00:00:00Z", "not after"),
        ("Tags", '{"a": {"b": 1}}', "Tags"),
        ("BillingCurrency", "EUX", "BillingCurrency"),
        ("PricingUnit", "", "null together"),
        ("ServiceName", "Other", "none of ours"),
        ("ChargeClass", "Correction", "Correction"),
        ("ResourceName", "null", "null either"),
    ],
)
def test_the_checker_names_what_is_wrong(lived: Container, column: str, value: str, told: str) -> None:
    rate_period(period().pk)
    rows = list(csv.DictReader("".join(csv_chunks(period(), "1.2")).splitlines(keepends=True)))
    rows[3][column] = value
    lines = [",".join(rows[0])] + [
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row.values()) for row in rows
    ]
    found = list(faults((f"{line}\r\n" for line in lines), "1.2"))
    assert found
    assert any(told in one for one in found), found
    assert all(one.startswith("row 5:") for one in found)


@pytest.mark.django_db
@pytest.mark.parametrize("meter", list(Meter))
def test_a_base_unit_at_the_smallest_price_has_all_its_digits_in_parquet(
    container: Container, tmp_path: Path, meter: Meter
) -> None:
    """Of each unit that a price may have: a byte is 30 digits of a GiB."""
    services.hold(resources.of_container(container), meter, 1, START)
    services.release(container.pk, meter, START + dt.timedelta(microseconds=1))
    for number, unit in enumerate(UNITS[meter]):
        published(PriceDraft("S", meter, unit, (("0", "0.000000000001"),)), valid_from=MONTH + number * HOUR)
        rate_period(period().pk)
        (row,) = csv.DictReader("".join(csv_chunks(period(), "1.3")).splitlines(keepends=True))
        parquet.write(period(), "1.3", tmp_path / "focus.parquet")
        (stored,) = pq.read_table(tmp_path / "focus.parquet").to_pylist()
        for name in NUMBERS:
            assert stored[name] == Decimal(row[name]), (unit, name)
        assert Decimal(row["ListCost"]) == Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"]) > 0


@pytest.mark.django_db
def test_an_open_period_is_exported_without_rounding(lived: Container, tmp_path: Path) -> None:
    rate_period(period().pk)
    bundle.write(period(), tmp_path / "so-far")
    assert differences(tmp_path / "so-far") == []
    rows = list(csv.DictReader((tmp_path / "so-far/focus-1.2.csv").open(newline="")))
    assert {row["InvoiceId"] for row in rows} == {""}
    assert "Adjustment" not in {row["ChargeCategory"] for row in rows}


@pytest.mark.django_db
def test_memory_does_not_grow_with_the_export(lived: Container) -> None:
    run = rate_period(period().pk)
    line = run.lines.first()
    assert line is not None

    def peak() -> int:
        tracemalloc.start()
        for _chunk in csv_chunks(period(), "1.2"):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    def more(count: int, first: int) -> None:
        for number in range(first, first + count, 1000):
            fields = {name: value for name, value in line.__dict__.items() if name not in {"_state", "id", "number"}}
            RatedLine.objects.bulk_create([RatedLine(**fields, number=number + n) for n in range(1000)])

    more(5000, 10_000)
    few = peak()
    more(10_000, 20_000)
    assert peak() < 1.2 * few, "three times the rows"


def taken_out(folder: Path, name: str) -> None:
    """The last row of a CSV."""
    *rows, _last = (folder / name).read_bytes().splitlines(keepends=True)
    (folder / name).write_bytes(b"".join(rows))


@pytest.mark.django_db
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_row_without_a_cost_that_was_taken_out_is_named(container: Container, tmp_path: Path, version: str) -> None:
    use(container, sent=10**8, cpu=0)
    published(OUT)
    periods.close(period().pk, NEXT)
    folder = tmp_path / "november"
    bundle.write(period(), folder)
    assert differences(folder) == []
    taken_out(folder, f"focus-{version}.csv")
    consistent(folder)
    assert [one.split(": ", 1)[0] for one in differences(folder)] == [f"focus-{version}.csv"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bill.json", "[]"),
        ("manifest.json", "[]"),
        ("manifest.json", '{"files": []}'),
        ("records.jsonl", "[1]\n"),
        ("lines.jsonl", "null\n"),
        ("focus-1.3.csv", "BilledCost,ChargeCategory\r\n"),
        ("focus-1.3.csv", "BilledCost\r\n" + "1" * 200_000),
        ("focus-1.3.csv", '"'),
    ],
)
def test_what_is_no_export_is_told_and_is_no_traceback(
    exported: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (exported / name).write_text(content)
    assert verify_bill.main([str(exported)]) in {1, 2}
    assert any(capsys.readouterr())


@pytest.mark.django_db
def test_a_book_without_its_tiers_is_told(exported: Path) -> None:
    lines = [json.loads(line) for line in (exported / "prices.jsonl").read_text().splitlines()]
    for price in lines[0]["book"]["prices"]:
        price["tiers"], price["included"] = [], "0"
    (exported / "prices.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert verify_bill.main([str(exported)]) in {1, 2}
