"""What METERING's invariants ask for and no other test shows; and that the table of them in docs/billing.md names tests that there are."""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
import re
from dataclasses import replace
from decimal import Decimal

import pytest
from django.conf import settings
from django.db.models import Sum
from django.test import Client

from console.accounts.models import Tenant, User
from console.metering import services
from console.metering.models import Meter, MeterEpoch, Quality, UsageRecord
from console.metering.observations import Observation
from console.metering.selectors import records
from console.metering.selectors.records import Wanted
from console.metering.spans import DAY, Span, day_of
from console.metering.splitting import HOUR
from console.metering.units import SHOWN, in_units
from console.workloads.models import Container
from tests.console.test_metering import START, at, final
from tests.console.test_metering_ingest import observed
from tests.console.test_metering_lives import lived

pytestmark = pytest.mark.django_db
US = 10**6


def total(meter: Meter) -> int:
    return UsageRecord.objects.filter(meter=meter).aggregate(sum=Sum("quantity"))["sum"] or 0


@pytest.mark.parametrize("seed", range(6))
def test_records_lie_end_to_end_whatever_was_lost_shuffled_or_set_back(container: Container, seed: int) -> None:
    """Invariant 4, of the rows themselves: no overlap, and no gap that is not a record of its own that says so."""
    luck = random.Random(seed)
    for number in (1, 2):
        lived(luck, container, number, START + number * 9 * HOUR)
    for epoch in MeterEpoch.objects.all():
        for meter in set(Meter.values) - {Meter.PUBLISHED_PORT, Meter.VOLUME_SIZE, Meter.DISK_SIZE}:
            mine = list(epoch.records.filter(meter=meter).order_by("starts_at", "ends_at"))
            assert mine, f"{meter} is charged or missing"
            assert mine[0].starts_at == epoch.started_at
            for before, after in itertools.pairwise(mine):
                assert before.ends_at == after.starts_at
            for one in mine:
                assert one.starts_at <= one.ends_at
                assert one.window <= one.starts_at
                assert one.ends_at <= one.window + HOUR
                assert one.quantity == 0 or one.quality != Quality.MISSING


@pytest.mark.parametrize("late", [False, True])
def test_a_reboot_makes_nothing_negative_and_nothing_double(container: Container, late: bool) -> None:
    """Invariant 6.  The boot clock and the counters begin anew; looks of before may be delivered after those of since."""
    before = [observed(container, 10 + 60 * n, cpu_ns=n * 10**9) for n in range(5)]

    def since(seconds: float, cpu: int) -> Observation:
        look = observed(container, 400 + seconds, cpu_ns=cpu)
        began = round((START.timestamp() + 400) * US)
        return replace(look, epoch=2, boot_id="boot after", started_us=began, ns=10**9 * 7 + round(seconds * 10**9))

    after = [since(1, 5), since(61, 10**9), since(121, 3 * 10**9)]
    for looks in (after, before) if late else (before, after):
        services.take(looks)
    services.close_lost("n", {container.pk: 2}, START + 3 * HOUR)
    services.take(before + after)
    last = final(
        container, replace(at(0), at=START.timestamp() + 530, boottime_ns=137 * 10**9, cpu_ns=4 * 10**9), epoch=2
    )
    services.ingest_final(replace(last, started_at=START.timestamp() + 400, boot_id="boot after"))
    services.take(after)
    assert total(Meter.CPU) == 4 * 10**9 + 4 * 10**9
    assert total(Meter.CPU_LIMIT) == 1500 * (250 + 130) * US
    assert not UsageRecord.objects.filter(quantity__lt=0).exists()
    lost = MeterEpoch.objects.get(number=1)
    assert (lost.lost, lost.boot_id, MeterEpoch.objects.get(number=2).boot_id) == (True, "boot", "boot after")


@pytest.mark.parametrize("set_by", [-3600, 3600])
def test_a_clock_that_is_set_by_an_hour_makes_nothing_negative_and_nothing_double(
    container: Container, set_by: int
) -> None:
    """Invariant 6, in the database, either way: quantities are the boot clock's, and only where they lie is an estimate."""
    looks = [observed(container, 10 + 60 * n, cpu_ns=n * 10**9) for n in range(6)]
    looks[3:] = [replace(one, at_us=one.at_us + set_by * US) for one in looks[3:]]
    services.take(looks)
    services.take(looks[::-1])
    counters = at(400, cpu_ns=6 * 10**9)
    services.ingest_final(final(container, replace(counters, at=counters.at + set_by)))
    assert total(Meter.CPU) == 6 * 10**9
    assert total(Meter.CPU_LIMIT) == 1500 * 400 * US
    assert not UsageRecord.objects.filter(quantity__lt=0).exists()
    mine = UsageRecord.objects.filter(meter=Meter.CPU).order_by("starts_at", "ends_at")
    for before, after in itertools.pairwise(mine):
        assert before.ends_at == after.starts_at


@pytest.mark.parametrize("set_by", [-3600, 3600, 4 * 365 * 86400])
@pytest.mark.parametrize("looks", [0, 3])
def test_a_clock_that_is_set_before_the_first_reading_makes_no_limit_longer(
    container: Container, set_by: int, looks: int
) -> None:
    """As the node's is some seconds after its boot, when restart policies have started containers already."""
    began_ns = 10**12
    services.take(
        replace(one, at_us=one.at_us + set_by * US, started_ns=began_ns)
        for one in (observed(container, 10 + 60 * n, cpu_ns=n * 10**9) for n in range(looks))
    )
    counters = at(400, cpu_ns=6 * 10**9, memory_bytes=1 << 20)
    last = final(container, replace(counters, at=counters.at + set_by))
    services.ingest_final(replace(last, started_boottime_ns=began_ns))
    assert total(Meter.CPU_LIMIT) == 1500 * 400 * US
    assert total(Meter.MEMORY_LIMIT) == (1 << 20) * 400 * US
    assert total(Meter.MEMORY_USED) <= 1024 * 400 * US
    assert not UsageRecord.objects.filter(quantity__lt=0).exists()


def test_a_start_whose_boot_time_nobody_wrote_down_is_not_from_before_the_boot(container: Container) -> None:
    counters = at(400, cpu_ns=1)
    services.ingest_final(final(container, replace(counters, at=counters.at + 30 * 86400)))
    assert total(Meter.CPU_LIMIT) == 1500 * (counters.boottime_ns // 1000)


def test_the_screen_the_api_and_the_csv_say_the_same(container: Container, tenant: Tenant, member: User) -> None:
    """Invariant 11: the explorer, the page of records, ``export.json`` and ``export.csv``, to the last digit that each shows."""
    services.take([observed(container, 10 + 60 * n, cpu_ns=n * 10**9 + 7) for n in range(100)])
    services.ingest_final(final(container, at(7000, cpu_ns=123_456_789_012, net_tx_bytes=987_654_321)))
    start = day_of(START)
    span = Span(start, start + DAY)
    client = Client()
    client.force_login(member)
    query = f"start={start:%Y-%m-%d}&end={start + DAY:%Y-%m-%d}"
    text = b"".join(client.get(f"/usage/export.csv?{query}").streaming_content).decode()  # type: ignore[attr-defined]
    (by_csv,) = list(csv.DictReader(io.StringIO(text)))
    answer = b"".join(client.get(f"/usage/export.json?{query}").streaming_content)  # type: ignore[attr-defined]
    (by_json,) = json.loads(answer)["containers"]
    names = {
        Meter.CPU: "vcpu_seconds",
        Meter.CPU_LIMIT: "vcpu_limit_seconds",
        Meter.MEMORY_LIMIT: "memory_limit_gib_seconds",
    }
    for meter, name in names.items():
        exact = in_units(total(meter), SHOWN[meter][1])
        page = client.get(f"/usage/?what={meter}&range=day&to={start + DAY:%Y-%m-%d}").content.decode()
        assert f"{exact:,.3f} {SHOWN[meter][0]}" in page
        (of_records,) = records.totals(Wanted(tenant, span, meter=meter))
        assert of_records.amount == exact
        assert Decimal(by_csv[name]) == Decimal(by_json[name]) == round(exact, 9)
    assert int(by_csv["net_tx_bytes"]) == by_json["net_tx_bytes"] == total(Meter.NET_TX) == 987_654_321


def test_each_invariant_has_tests_that_there_are() -> None:
    text = (settings.SOURCE / "docs/billing.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 12))
    for row in rows:
        named = re.findall(r"`([a-z]+)/(test_\w+)::(test_\w+)`", row)
        assert named, row
        for folder, file, test in named:
            source = (settings.SOURCE / f"tests/{folder}/{file}.py").read_text(encoding="utf-8")
            assert f"def {test}(" in source, f"{folder}/{file}::{test}"
