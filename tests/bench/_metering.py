"""One database's figures, measured in a process of its own: ``python -m tests.bench._metering CONTAINERS LINES`` prints JSON.

The export is measured in another, ``… export PERIOD``, so that its memory is its own.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from console.accounts.models import Tenant

START = dt.datetime(2026, 11, 2, 10, 0, 30, tzinfo=dt.UTC)
US = 10**6


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    if sys.argv[1] == "export":
        print(json.dumps(_export(int(sys.argv[2]))))
        return
    containers, lines = int(sys.argv[1]), int(sys.argv[2])
    if "sqlite" in settings.DATABASES["default"]["ENGINE"]:
        Path(settings.DATABASES["default"]["NAME"]).parent.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    print(json.dumps(_figures(containers, lines)))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _figures(containers: int, lines: int) -> dict[str, float]:
    from console.accounts.models import Tenant
    from console.metering import services
    from console.metering.models import Period, RatingRun, UsageRecord
    from console.metering.services import prices
    from console.metering.services.prices import BookDraft, PriceDraft
    from console.metering.services.rating import carry_on, rate_period
    from console.workloads.models import Container

    tenant = Tenant.objects.create(name="Bench", slug="bench")
    Container.objects.bulk_create(
        Container(id=f"c{n:06d}", tenant=tenant, node="n", name=f"c{n:06d}", image_reference="x", memory_bytes=1 << 28,
                  cpu_millis=500) for n in range(containers)
    )  # fmt: skip
    ids = [f"c{n:06d}" for n in range(containers)]
    found = {"first": _timed(lambda: services.take(_looks(ids, 0)))}
    found["minute"] = _timed(lambda: services.take(_looks(ids, 60)))
    services.take(_looks(ids, 3569))
    before = UsageRecord.objects.count()
    looks, cpu = _looks(ids, 3571), time.process_time()
    found["hour"] = _timed(lambda: services.take(looks))
    found["hour_cpu"] = time.process_time() - cpu
    found["records_a_second"] = (UsageRecord.objects.count() - before) / found["hour"]
    draft = BookDraft("EUR", START.replace(day=1, hour=0, second=0), (
        PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.00001"),)),
        PriceDraft("MEM", "memory_limit", "GiB-Seconds", (("0", "0.000001"),))))  # fmt: skip
    prices.publish(prices.draft(draft).pk)
    period = Period.objects.get()
    for hour in (1, 2, 3):  # the first has nothing behind it, the second little
        if hour > 1:
            services.take(_looks(ids, 3600 * hour - 29))
        as_of = START + dt.timedelta(hours=hour, minutes=20)
        found["rated"] = _timed(lambda: carry_on(period.pk, as_of))  # noqa: B023 -- called in this turn
    assert RatingRun.objects.count() == 1, "it was carried on"
    seconds = _timed(lambda: rate_period(period.pk))
    found["lines_a_second"] = rate_period(period.pk).lines_count / seconds
    found |= _records_page(tenant, lines)
    _fill(period.pk, lines)
    command = [sys.executable, "-m", "tests.bench._metering", "export", str(period.pk)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return found | json.loads(ran.stdout)


def _records_page(tenant: Tenant, count: int) -> dict[str, float]:
    """Over so many records, spread over the hours of the month: its sums, its first rows, and making the sums of the days anew."""
    from console.metering.models import StaleDay, UsageRecord
    from console.metering.months import month_of
    from console.metering.rows import insert
    from console.metering.selectors import records
    from console.metering.selectors.records import Wanted
    from console.metering.services import sums
    from console.metering.services.records import FIELDS
    from console.metering.spans import Span
    from console.metering.splitting import HOUR

    month = Span(*month_of(START))
    hours = (month.end - month.start) // HOUR
    some = UsageRecord.objects.order_by("pk").values(*FIELDS)[:1000]
    kinds = [{**row, "tenant_id": tenant.pk} for row in some]
    for first in range(UsageRecord.objects.count(), count, 20_000):
        numbers = range(first, min(first + 20_000, count))
        made = [
            {**kinds[number % len(kinds)], "id": f"{number:064x}", "window": month.start + HOUR * (number % hours)}
            for number in numbers
        ]
        insert(UsageRecord, FIELDS, [[row[name] for name in FIELDS] for row in made])
        sums.mark((tenant.pk, row["window"]) for row in made)
    wanted = Wanted(tenant, month)
    days = StaleDay.objects.count()
    return {
        "page_unsummed": _timed(lambda: records.totals(wanted)),
        "day_summed": _timed(sums.refresh) / days,
        "page_sums": _timed(lambda: records.totals(wanted)),
        "page_rows": _timed(lambda: records.page(wanted, size=100)),
    }


def _looks(ids: list[str], seconds: int) -> list[object]:
    from console.metering.observations import Observation

    start, ns = round(START.timestamp() * US), 10**15
    values = {
        "cpu": seconds * 10**7,
        "block_read": 0,
        "block_write": seconds,
        "net_rx": seconds * 100,
        "net_tx": seconds * 90,
    }
    return [
        Observation(id, 1, start, "boot", 1, start + seconds * US, ns + seconds * 10**9, values, 1 << 20) for id in ids
    ]


def _fill(period_id: int, lines: int) -> None:
    """Up to so many rated lines, copies of one."""
    from decimal import Decimal

    from console.metering.models import Period, RatedLine
    from console.metering.models.decimals import plain
    from console.metering.rows import insert
    from console.metering.services.rating import FIELDS

    run = Period.objects.get(pk=period_id).run
    assert run is not None
    one = run.lines.values(*FIELDS).first()
    assert one is not None
    row = {name: plain(value) if isinstance(value, Decimal) else value for name, value in one.items()}
    for first in range(run.lines.count(), lines, 20_000):
        numbers = range(first + 1, min(first + 20_000, lines) + 1)
        insert(RatedLine, FIELDS, [[*{**row, "number": number}.values()] for number in numbers])


def _export(period_id: int) -> dict[str, float]:
    """As FOCUS CSV and Parquet; memory is the peak of the whole process."""
    from console.metering.exports import focus, parquet
    from console.metering.models import Period

    period = Period.objects.get(pk=period_id)
    run = period.run
    assert run is not None
    with tempfile.TemporaryDirectory() as folder:
        csv_seconds = _timed(lambda: _store(Path(folder) / "focus.csv", focus.csv_chunks(period, "1.2")))
        parquet_seconds = _timed(lambda: parquet.write(period, "1.2", Path(folder) / "focus.parquet"))
    count = run.lines.count()
    return {
        "export_rows": count,
        "csv_rows_a_second": count / csv_seconds,
        "parquet_rows_a_second": count / parquet_seconds,
        "peak_mib": _peak_kib() / 1024,
    }


def _peak_kib() -> int:
    """Of this program: getrusage tells the largest of what the process ever was, its parent's memory before exec included."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def _store(path: Path, chunks: object) -> None:
    with path.open("w", newline="") as handle:
        handle.writelines(chunks)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
