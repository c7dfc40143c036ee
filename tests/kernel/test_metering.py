"""Real containers, however short: each is billed to the nanosecond, and the tenant's cgroup is the witness."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from console.accounts.models import Tenant
from console.metering import services
from console.metering.collector import Collector, cgroup_version
from console.metering.measuring import COUNTERS
from console.metering.models import Meter, MeterEpoch, Quality, Reading, UsageRecord
from console.metering.selectors.conservation import conservation
from console.metering.services import prices
from console.metering.services.prices import BookDraft, PriceDraft
from console.metering.services.rating import rate_period
from console.metering.splitting import HOUR, hour_of
from console.workloads.models import Container
from runtime.api import ContainerSpec, Counters, Limits, State
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
from tests.kernel.containers import engine
from tests.marks import of_the_console

__all__ = ["engine"]
pytestmark = [pytest.mark.root, pytest.mark.django_db, of_the_console]
SHORT = int(os.environ.get("SLIPWAY_TEST_SHORT_CONTAINERS", "600"))
SOURCE = Path(__file__).parents[2]


@pytest.fixture
def tenant() -> Tenant:
    return Tenant.objects.create(id="tenant1", name="Acme", slug="acme")


def row(tenant: Tenant, id: str) -> Container:
    limits = Limits(32 << 20, 1000, 32)
    return Container.objects.create(
        id=id, tenant=tenant, node="n", name=id, image_reference="busybox", memory_bytes=limits.memory_bytes,
        cpu_millis=limits.cpu_millis,
    )  # fmt: skip


def spec(engine: NativeEngine, id: str, *command: str) -> ContainerSpec:
    return ContainerSpec(
        id, "tenant1", id, engine.image("busybox").id, command=command, limits=Limits(32 << 20, 1000, 32)
    )


def parent_ns(home: Home) -> int:
    """CPU of the tenant's cgroup, with that of all cgroups that were ever in it."""
    if cgroup_version() == 1:
        path = Path("/sys/fs/cgroup/cpuacct") / home.instance / "tenant1/cpuacct.usage"
        return int(path.read_text())
    stat = Path("/sys/fs/cgroup") / home.instance / "tenant1/cpu.stat"
    return 1000 * int(dict(line.split() for line in stat.read_text().splitlines())["usage_usec"])


def live(engine: NativeEngine, id: str) -> None:
    """A short life of several processes, to its end and its final reading; the container stays, so its parent's cgroup does."""
    engine.create(
        spec(engine, id, "sh", "-c", "i=0; while [ $i -lt 50 ]; do i=$((i+1)); done; true | true; sleep 0.02")
    )
    engine.start(id)
    deadline = time.monotonic() + 60
    while engine.settle(id).state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_short_containers_sum_to_their_tenant_s_cgroup(engine: NativeEngine, tenant: Tenant) -> None:
    keeper = spec(engine, "ckeeper", "sleep", "100000")
    row(tenant, "ckeeper")
    engine.create(keeper)
    engine.start("ckeeper")
    ids = [f"c{number:03d}{secrets.token_hex(4)}" for number in range(SHORT)]
    for id in ids:
        row(tenant, id)
    with ThreadPoolExecutor(3) as pool:
        for _ in pool.map(lambda id: live(engine, id), ids):
            pass
    engine.stop("ckeeper", grace_s=0)
    total = parent_ns(engine.home)
    finals = engine.final_readings()
    assert len(finals) == SHORT + 1
    for reading in finals:
        assert services.ingest_final(reading, cgroup=cgroup_version())
    billed = int(UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"])
    tolerance = 0 if cgroup_version() == 1 else 1000 * (SHORT + 1)
    assert abs(billed - total) <= tolerance
    available = {meter for meter, name in COUNTERS.items() if getattr(finals[0].counters, name) is not None}
    assert Meter.CPU in available
    for meter in available | {Meter.CPU_LIMIT, Meter.MEMORY_LIMIT}:
        epochs = UsageRecord.objects.filter(meter=meter).exclude(quality=Quality.MISSING).values("epoch").distinct()
        assert epochs.count() == SHORT + 1, meter
    assert UsageRecord.objects.filter(quantity__lt=0).count() == 0


def test_looks_and_the_final_reading_bill_a_container_once(
    engine: NativeEngine, tenant: Tenant, tmp_path: Path
) -> None:
    id = "c" + secrets.token_hex(4)
    row(tenant, id)
    collector = Collector(engine, tmp_path)
    engine.create(spec(engine, id, "sh", "-c", "while :; do :; done"))
    engine.start(id)
    for _ in range(5):
        assert collector.collect() == 1
        time.sleep(0.1)
    assert collector.deliver() == 10, "with each look one at the tenant's cgroup"
    first: Counters = engine.counters([id])[id]
    shown = MeterEpoch.objects.get().latest["values"]["cpu"]
    assert 0 < shown <= (first.cpu_ns or 0)
    engine.stop(id, grace_s=0)
    (final,) = engine.final_readings(id)
    services.ingest_final(final, cgroup=cgroup_version())
    assert collector.collect() == 0
    billed = UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"]
    assert billed == final.counters.cpu_ns
    assert Reading.objects.filter(final=True, meter=Meter.CPU).get().source
    prices.publish(prices.draft(BookDraft("EUR", MeterEpoch.objects.get().started_at.replace(
        day=1, hour=0, minute=0, second=0, microsecond=0),
        (PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "1"),)),))).pk)  # fmt: skip
    run = rate_period(UsageRecord.objects.filter(meter=Meter.CPU).latest("window").billed_in_id)
    assert run.total * 10**9 == billed


def test_a_tenants_cgroup_and_the_records_of_its_containers_agree(
    engine: NativeEngine, tenant: Tenant, tmp_path: Path
) -> None:
    collector = Collector(engine, tmp_path)
    begin = hour_of(timezone.now())
    ids = ["c" + secrets.token_hex(4) for _ in range(3)]
    for id in ids:
        made = row(tenant, id)
        Container.objects.filter(pk=id).update(node=settings.NODE)
        made.refresh_from_db()
        engine.create(spec(engine, id, "sh", "-c", "while :; do :; done"))
        services.begin(engine.start(id), made)
    for _ in range(3):
        collector.collect()
        time.sleep(0.2)
    for id in ids:
        engine.stop(id, grace_s=0)
    for final in engine.final_readings():
        services.ingest_final(final, cgroup=cgroup_version())
    collector.collect()
    collector.deliver()
    found = conservation(tenant, begin, timezone.now() + HOUR)
    counted, recorded = (sum(getattr(hour, name) for hour in found) for name in ("counted", "recorded"))
    assert counted > 3 * 10**8
    assert abs(counted - recorded) <= (0 if cgroup_version() == 1 else 1000 * len(ids))


def test_a_collector_that_is_killed_while_it_writes_loses_nothing(
    engine: NativeEngine, tenant: Tenant, tmp_path: Path
) -> None:
    id = "c" + secrets.token_hex(4)
    row(tenant, id)
    engine.create(spec(engine, id, "sh", "-c", "while :; do :; done"))
    engine.start(id)
    script = (
        "import django, sys; django.setup()\n"
        "from pathlib import Path\n"
        "from console.metering.collector import Collector\n"
        "from runtime.engines.native.engine import NativeEngine\n"
        "from runtime.home import Home\n"
        f"Collector(NativeEngine(Home.from_environment()), Path({str(tmp_path)!r})).collect()\n"
    )
    for point in ("spool.written", "spool.synced", ""):
        ran = subprocess.run(
            [sys.executable, "-c", script], check=False, cwd=SOURCE, env={**os.environ, "SLIPWAY_FAILPOINT": point}
        )
        assert ran.returncode == (-signal.SIGKILL if point else 0)
    Collector(engine, tmp_path).deliver()
    engine.stop(id, grace_s=0)
    (final,) = engine.final_readings(id)
    services.ingest_final(final)
    billed = UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"]
    assert billed == final.counters.cpu_ns


def test_a_container_that_was_resized_is_billed_for_each_size_in_its_time(
    engine: NativeEngine, tenant: Tenant, tmp_path: Path
) -> None:
    """Looks see the first change, and only the final reading the second."""
    id = "c" + secrets.token_hex(4)
    row(tenant, id)
    collector = Collector(engine, tmp_path)
    engine.create(spec(engine, id, "sleep", "100000"))
    engine.start(id)
    collector.collect()
    engine.controls.update(id, Limits(64 << 20, 250, 32))
    collector.collect()
    collector.deliver()
    engine.controls.update(id, Limits(48 << 20, 250, 32))
    engine.stop(id, grace_s=0)
    (final,) = engine.final_readings(id)
    services.ingest_final(final, cgroup=cgroup_version())
    begun = MeterEpoch.objects.get().started_boottime_ns
    edges = [begun, *(size.boottime_ns for size in final.sizes), final.counters.boottime_ns]
    first, second, third = (end // 1000 - start // 1000 for start, end in itertools.pairwise(edges))
    expected = {
        Meter.MEMORY_LIMIT: ((32 << 10) * first + (64 << 10) * second + (48 << 10) * third),
        Meter.CPU_LIMIT: 1000 * first + 250 * (second + third),
    }
    sums = {meter: UsageRecord.objects.filter(meter=meter).aggregate(sum=Sum("quantity"))["sum"] for meter in expected}
    assert min(first, second, third) > 0
    assert sums == expected
