"""What a scheduled export carries of one day or month, as files in a folder; the same period makes the same bytes."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from django.db.models import Q
from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.metering.exports import focus_invoice, parquet, raw, usage, usage_parquet
from console.metering.exports.bundle import INVOICING
from console.metering.exports.focus import csv_chunks
from console.metering.exports.schema import invoice_metadata, metadata
from console.metering.models import ExportSchedule, Period, UsageRecord
from console.metering.months import month_of
from console.metering.selectors.unread import uncharged, unread
from console.metering.spans import DAY

Content = ExportSchedule.Content
MANIFEST = "manifest.json"
FOCUS = "focus-1.3"


class NotReady(Exception):
    """The period is not all known yet; its sentence says what is missing.  Later it is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of one tenant, from ``start`` to before ``end``, UTC: one day or one month."""

    tenant: Tenant
    start: dt.datetime
    end: dt.datetime
    contents: frozenset[str]

    @property
    def day(self) -> dt.datetime | None:
        """None: a month."""
        return self.start if self.end - self.start == DAY else None

    @property
    def period(self) -> Period | None:
        """The billing period that it lies in; None where nothing was metered in that."""
        return Period.objects.filter(tenant=self.tenant, starts_at=month_of(self.start)[0]).first()

    @property
    def unrated(self) -> Period | None:
        """The period, where charges are wanted and it is not closed."""
        found = self.period if Content.FOCUS in self.contents else None
        return None if found is None or found.state == Period.State.CLOSED else found


def refuse_unready(wanted: Wanted) -> None:
    """Raises NotReady where a later export could differ: something was not read, or the month not closed yet."""
    waiting = unread(wanted.tenant.pk, wanted.end)
    if waiting:
        raise NotReady(
            _("These containers have not been read since it ended: %(names)s.") % {"names": ", ".join(waiting[:5])}
        )
    if wanted.day is None:
        refuse_unclosed(wanted)
    elif wanted.unrated is not None and uncharged(wanted.tenant.pk, wanted.end):
        raise NotReady(_("Something that is held over time has not been charged up to its end yet."))


def refuse_unclosed(wanted: Wanted) -> None:
    """Raises NotReady where charges are wanted of a month that is not closed."""
    if wanted.unrated is not None:
        raise NotReady(_("The month is not closed yet: its charges can still change."))


def write(wanted: Wanted, folder: Path, pulse: Callable[[], None] = lambda: None) -> None:
    """Into ``folder``, which is there.  ``pulse`` is called again and again while it works."""
    for content in Content:
        if content in wanted.contents:
            WRITERS[content](wanted, folder, pulse)


def manifest(start: dt.datetime, end: dt.datetime, whose: str, folder: Path) -> str:
    """Of all files under ``folder``: names, hashes and sizes.  ``whose``: a tenant's id, or ``all``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {
        "format": "slipway-scheduled-export-1",
        "tenant": whose,
        "period": {"start": usage.iso(start), "end": usage.iso(end)},
        "files": {str(path.relative_to(folder)): _described(path) for path in files},
    }
    return json.dumps(found, indent=1) + "\n"


def concerned(start: dt.datetime, end: dt.datetime, contents: frozenset[str]) -> list[Tenant]:
    """Whoever used something in that time, by id; where a month's charges are wanted, also whose charges are all for earlier months."""
    found = Q(pk__in=UsageRecord.objects.filter(window__gte=start, window__lt=end).values("tenant"))
    if Content.FOCUS in contents and end - start > DAY:
        found |= Q(pk__in=Period.objects.filter(starts_at=start).values("tenant"))
    return list(Tenant.objects.filter(found).order_by("pk"))


def _described(path: Path) -> dict[str, object]:
    with path.open("rb") as handle:
        return {"sha256": hashlib.file_digest(handle, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _store(path: Path, chunks: Iterator[str], pulse: Callable[[], None]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        for chunk in chunks:
            handle.write(chunk)
            pulse()


def _usage_csv(wanted: Wanted, folder: Path, pulse: Callable[[], None]) -> None:
    _store(folder / "usage.csv", usage.csv_rows(wanted.tenant, wanted.start, wanted.end, by="hour"), pulse)


def _usage_jsonl(wanted: Wanted, folder: Path, pulse: Callable[[], None]) -> None:
    _store(folder / "usage.jsonl", usage.json_lines(wanted.tenant, wanted.start, wanted.end), pulse)


def _usage_parquet(wanted: Wanted, folder: Path, pulse: Callable[[], None]) -> None:
    usage_parquet.write(wanted.tenant, wanted.start, wanted.end, folder / "usage.parquet")
    pulse()


def _focus(wanted: Wanted, folder: Path, pulse: Callable[[], None]) -> None:
    """Of a month with its invoice; nothing where nothing was metered."""
    period = wanted.period
    if period is None:
        return
    _store(folder / f"{FOCUS}.csv", csv_chunks(period, "1.3", wanted.day), pulse)
    parquet.write(period, "1.3", folder / f"{FOCUS}.parquet", wanted.day)
    _store(folder / f"{FOCUS}-schema.json", iter([metadata("1.3")]), pulse)
    if wanted.day is None:
        for dataset, name in INVOICING.items():
            _store(folder / f"{name}.csv", focus_invoice.csv_chunks(period, dataset), pulse)
            _store(folder / f"{name}-schema.json", iter([invoice_metadata(dataset)]), pulse)


def _readings(wanted: Wanted, folder: Path, pulse: Callable[[], None]) -> None:
    _store(folder / "epochs.jsonl", raw.epochs(wanted.tenant, wanted.start, wanted.end), pulse)
    _store(folder / "readings.jsonl", raw.readings(wanted.tenant, wanted.start, wanted.end), pulse)


WRITERS: Mapping[str, Callable[[Wanted, Path, Callable[[], None]], None]] = {
    Content.USAGE_CSV: _usage_csv,
    Content.USAGE_JSONL: _usage_jsonl,
    Content.USAGE_PARQUET: _usage_parquet,
    Content.FOCUS: _focus,
    Content.READINGS: _readings,
}
