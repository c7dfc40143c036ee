"""Everything of a period in one folder: FOCUS, what it rests on, and the program that recomputes it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from console.core.errors import Invalid
from console.metering.evidence import STREAMS, Source, manifest
from console.metering.exports import focus_invoice, parquet
from console.metering.exports.focus import Version, csv_chunks
from console.metering.exports.schema import invoice_metadata, metadata, price_list
from console.metering.models import Invoice, Period
from console.metering.selectors.bills import bill

Progress = Callable[[str, int], None]
"""File, and how many of its lines are written."""
EVERY = 10_000
MANIFEST = "manifest.json"
VERSIONS: tuple[Version, ...] = ("1.2", "1.3")
INVOICING: Mapping[focus_invoice.Dataset, str] = {
    "BillingPeriod": "focus-1.4-billing-period",
    "InvoiceDetail": "focus-1.4-invoice-detail",
}
"""Data set -> its file, without an ending."""
READ_ME = """\
One month of one tenant of a Slipway.

focus-1.2.csv, focus-1.3.csv, .parquet   the charges, as FOCUS (https://focus.finops.org) has them; times are UTC, ends not included
focus-1.4-billing-period.csv             the month and whether it is closed; since FOCUS 1.4 data sets of their own
focus-1.4-invoice-detail.csv             the rows of the invoice; none before it is issued
focus-*-schema.json                      their columns
price-list.csv                           the prices
bill.json                                the invoice's manifest: sums, the hash of each file below, the hash of the invoice before
readings.jsonl                           what the kernel's counters said; null: they did not, and "reason" says why
epochs.jsonl                             the lives of the containers that were read
allocations.jsonl                        what was held over time
records.jsonl                            differences of readings, divided at the hours
lines.jsonl                              what each hour cost
prices.jsonl, credits.jsonl, resources.jsonl
manifest.json                            the hash of each file

python3 verify_bill.py .                 recomputes all of it, and names every difference
"""


def write(
    period: Period, folder: Path, progress: Progress = lambda _file, _lines: None
) -> dict[str, dict[str, object]]:
    """Makes ``folder``, whole or not at all; returns its files with their hashes.  The same period makes the same bytes.

    Raises Invalid where there is something by that name.
    """
    if folder.exists():
        raise Invalid("folder", _("There is something called %(name)s already: name a new folder.") % {"name": folder})
    making = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    making.mkdir(parents=True, mode=0o700)
    try:
        for name, make in files(period, progress):
            make(making / name)
        made = {path.name: hashed(path) for path in sorted(making.iterdir())}
        _store(making / MANIFEST, iter([manifest_text(made)]))
        os.rename(making, folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return made


Making = Callable[[Path], None]


def files(period: Period, progress: Progress = lambda _file, _lines: None) -> Iterator[tuple[str, Making]]:
    """Each file but the manifest: its name, and what writes it to a path."""

    def stored(name: str, chunks: Callable[[], Iterator[str]]) -> tuple[str, Making]:
        return name, lambda path: _store(path, chunks(), lambda lines: progress(name, lines))

    def table(name: str, version: Version) -> tuple[str, Making]:
        return name, lambda path: progress(name, parquet.write(period, version, path))

    yield stored("bill.json", lambda: iter([manifest_of(period) + "\n"]))
    for name, source in STREAMS.items():
        yield stored(f"{name}.jsonl", partial(_lines, source, period))
    for version in VERSIONS:
        yield stored(f"focus-{version}.csv", partial(csv_chunks, period, version))
        yield table(f"focus-{version}.parquet", version)
        yield stored(f"focus-{version}-schema.json", partial(_one, metadata(version)))
    for dataset, name in INVOICING.items():
        yield stored(f"{name}.csv", partial(focus_invoice.csv_chunks, period, dataset))
        yield stored(f"{name}-schema.json", partial(_one, invoice_metadata(dataset)))
    yield stored("price-list.csv", partial(price_list, period))
    yield stored("README.txt", partial(_one, READ_ME))
    program = Path(settings.SOURCE) / "launcher/verify_bill.py"
    yield stored(program.name, lambda: iter([program.read_text(encoding="utf-8")]))


def _lines(source: Source, period: Period) -> Iterator[str]:
    return (f"{one}\n" for one in source(period))


def _one(text: str) -> Iterator[str]:
    return iter([text])


def manifest_text(made: Mapping[str, Mapping[str, object]]) -> str:
    """``made``: file -> its hash and size."""
    found = {"format": "slipway-export-1", "files": {name: dict(made[name]) for name in sorted(made)}}
    return json.dumps(found, indent=1) + "\n"


def manifest_of(period: Period) -> str:
    """The invoice's; of an open period what it would be now, without a number and without rounding."""
    invoice = Invoice.objects.filter(period=period).first()
    if invoice is not None:
        return invoice.manifest
    before = Invoice.objects.filter(tenant=period.tenant_id, period__starts_at__lt=period.starts_at)
    last = before.order_by("-period__starts_at").first()
    return manifest(period, bill(period), None, "" if last is None else last.sha256)


def _store(path: Path, chunks: Iterator[str], progress: Callable[[int], None] = lambda _lines: None) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        for count, chunk in enumerate(chunks, 1):
            handle.write(chunk)
            if count % EVERY == 0:
                progress(count)
        handle.flush()
        os.fsync(handle.fileno())


def hashed(path: Path) -> dict[str, object]:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}
