"""A container whose limits change while it runs: the bill is on the size that it had, to the microsecond, whatever is lost or comes twice."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Sum

from console.accounts.models import Tenant
from console.metering import services
from console.metering.collector import Collector
from console.metering.exports import bundle, raw
from console.metering.measuring import KIB
from console.metering.models import Meter, MeterEpoch, Reading, UsageRecord
from console.metering.observations import Observation, decode, encode
from console.metering.selectors.tails import tails
from console.metering.services import periods
from console.metering.sizes import METERS, Size
from console.metering.splitting import HOUR, hour_of
from console.workloads.models import Container
from runtime.api import ContainerSpec, FinalReading, Limits
from runtime.api import Size as EngineSize
from runtime.engines.fake.engine import FakeEngine
from runtime.home import Home
from tests.console.test_metering import START, at, final
from tests.console.test_metering_bills import CPU, LATER, MEMORY, NEXT, period, published
from tests.console.test_metering_exports import changed, consistent, differences
from tests.console.test_metering_ingest import killed, observed

GIB = 1 << 30
NS = 10**9
BEGAN_NS = 10**12
"""Boot time of START, see ``test_metering.at``."""
CHANGES = [(400.25, 2 * GIB, 3000), (4000.5, GIB // 2, 250), (7777.000003, GIB, 1500)]
"""Seconds after the start, memory, thousandths of a vCPU.  It began with 1 GiB and 1500."""
END = 9100.0


@pytest.fixture
def container(tenant: Tenant) -> Container:
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=7 * GIB, cpu_millis=77
    )


def told(until: float) -> tuple[Size, ...]:
    found = []
    for seconds, memory, millis in CHANGES:
        if seconds < until:
            ns = BEGAN_NS + round(seconds * NS)
            found.append(Size(ns, ns, round((START.timestamp() + seconds) * 10**6), memory, millis))
    return tuple(found)


def looked(container: Container, seconds: float) -> Observation:
    return replace(observed(container, seconds, cpu_ns=int(seconds) * 10**8), limits=(GIB, 1500), sizes=told(seconds))


def ended(container: Container) -> FinalReading:
    sizes = [EngineSize(one.at_us / 10**6, one.told_ns, Limits(one.memory_bytes, one.cpu_millis)) for one in told(END)]
    reading = final(container, at(END, cpu_ns=10**12))
    return replace(reading, limits=Limits(GIB, 1500), sizes=tuple(sizes))


def expected(meter: Meter) -> int:
    edges = [(0.0, GIB, 1500), *CHANGES, (END, 0, 0)]
    return sum(
        (millis if meter is Meter.CPU_LIMIT else memory // KIB) * (round(later[0] * 10**6) - round(start * 10**6))
        for (start, memory, millis), later in itertools.pairwise(edges)
    )


def held() -> dict[Meter, int]:
    return {
        meter: UsageRecord.objects.filter(meter=meter).aggregate(sum=Sum("quantity"))["sum"] or 0 for meter in METERS
    }


def rows() -> list[tuple[Any, ...]]:
    return list(UsageRecord.objects.order_by("pk").values_list("pk", "meter", "window", "quantity", "quality"))


@pytest.mark.django_db
def test_each_size_is_billed_for_its_time_and_hours_sum_to_it(container: Container) -> None:
    services.take([looked(container, 7 + 60 * n) for n in range(150)])
    services.ingest_final(ended(container))
    assert held() == {meter: expected(meter) for meter in METERS}
    epoch = MeterEpoch.objects.get()
    assert (epoch.memory_bytes, epoch.cpu_millis) == (GIB, 1500), "as the engine says, whatever the row says by now"
    assert [one[3:] for one in epoch.sizes] == [[memory, millis] for _, memory, millis in CHANGES]
    first = UsageRecord.objects.filter(meter=Meter.CPU_LIMIT, window=hour_of(START)).aggregate(sum=Sum("quantity"))
    assert first["sum"] == 1500 * 10 * 10**6, "ten seconds up to the hour, before any change"
    second = UsageRecord.objects.filter(meter=Meter.CPU_LIMIT, window=hour_of(START) + HOUR)
    seconds = 1500 * (400.25 - 10) + 3000 * (3610 - 400.25)
    assert second.aggregate(sum=Sum("quantity"))["sum"] == seconds * 10**6
    assert {one.quality for one in UsageRecord.objects.filter(meter__in=METERS)} == {"exact"}


@pytest.mark.django_db
def test_a_final_reading_alone_bills_sizes_that_no_look_saw(container: Container) -> None:
    services.ingest_final(ended(container))
    assert held() == {meter: expected(meter) for meter in METERS}


@pytest.mark.django_db
def test_shuffled_and_repeated_looks_bill_the_same(container: Container) -> None:
    looks = [looked(container, 7 + 60 * n) for n in range(150)]
    services.take(looks)
    services.ingest_final(ended(container))
    plain = rows()
    for model in (UsageRecord, Reading, MeterEpoch):
        model.objects.all().delete()
    shuffled = [decode(encode(one)) for one in looks + looks[::3]]
    random.Random(11).shuffle(shuffled)
    services.take(one for one in shuffled if isinstance(one, Observation))
    services.take(looks)
    services.ingest_final(ended(container))
    assert rows() == plain
    services.ingest_final(ended(container))
    assert rows() == plain


@pytest.mark.django_db
def test_frames_of_an_earlier_agent_are_taken_in_and_the_final_reading_tells_the_rest(container: Container) -> None:
    """They have neither limits nor sizes; a stored one charges its time at what was known then."""
    old = encode(observed(container, 100, cpu_ns=5))
    del old["limits"]
    assert "sizes" not in old
    Container.objects.filter(pk=container.pk).update(memory_bytes=GIB, cpu_millis=1500)
    assert services.take([decode(old)]) == []  # type: ignore[list-item]
    services.ingest_final(ended(container))
    assert held() == {meter: expected(meter) for meter in METERS}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", ["spool.written", "spool.synced", "drain.taken", "ingest.stored"])
def test_a_collector_that_is_killed_just_after_a_change_loses_none_of_it(
    tenant: Tenant, tmp_path: Path, point: str
) -> None:
    engine = FakeEngine(Home(tmp_path))
    image = engine.build("busybox").id
    row = Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=GIB, cpu_millis=1500
    )
    engine.create(ContainerSpec(row.pk, tenant.pk, "web", image, command=("sleep", "9"), limits=Limits(GIB, 1500)))
    engine.start(row.pk)
    collector = Collector(engine, tmp_path)
    collector.collect()
    collector.deliver()
    engine.controls.update(row.pk, Limits(2 * GIB, 500))

    def look() -> None:
        collector.collect()
        collector.deliver()

    killed(look, point)
    engine.controls.update(row.pk, Limits(GIB // 2, 500))
    engine.stop(row.pk)
    Collector(engine, tmp_path).deliver()
    (last,) = engine.final_readings(row.pk)
    assert services.ingest_final(last)
    epoch = MeterEpoch.objects.get()
    assert [one[3:] for one in epoch.sizes] == [[2 * GIB, 500], [GIB // 2, 500]]
    edges = [epoch.started_boottime_ns, *(size.boottime_ns for size in last.sizes), last.counters.boottime_ns]
    microseconds = [end // 1000 - start // 1000 for start, end in itertools.pairwise(edges)]
    memory = sum(us * (size // KIB) for us, size in zip(microseconds, (GIB, 2 * GIB, GIB // 2), strict=True))
    cpu = microseconds[0] * 1500 + (microseconds[1] + microseconds[2]) * 500
    assert held() == {Meter.MEMORY_LIMIT: memory, Meter.CPU_LIMIT: cpu}


@pytest.mark.django_db
def test_what_runs_is_shown_at_the_sizes_that_it_has_had(container: Container) -> None:
    services.take([looked(container, 20), looked(container, 460)])
    (tail,) = tails(None, hour_of(START), hour_of(START) + 3 * HOUR)
    assert tail.quantities[Meter.CPU_LIMIT] == (1500 * 380_250 + 3000 * 59_750) * 1000


@pytest.fixture
def exported(container: Container, tmp_path: Path) -> Path:
    services.take([looked(container, 7 + 60 * n) for n in range(150)])
    services.ingest_final(ended(container))
    published(CPU, MEMORY)
    periods.close(period().pk, NEXT)
    bundle.write(period(), tmp_path / "november")
    return tmp_path / "november"


@pytest.mark.django_db
def test_a_bill_with_changes_is_recomputed(exported: Path) -> None:
    assert differences(exported) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"memory_bytes": GIB}, "memory_limit"),
        ({"cpu_millis": 1}, "cpu_limit"),
        ({"boottime_ns": BEGAN_NS + 400 * NS, "told_boottime_ns": BEGAN_NS + 400 * NS}, "memory_limit"),
        ({"boottime_ns": BEGAN_NS + 300 * NS}, "from before"),
        ({"at": "2026-11-23T21:05:00.000000Z"}, "cpu_limit"),
        (None, "cpu_limit"),
    ],
)
def test_a_size_that_was_tampered_with_is_named(exported: Path, changes: dict[str, object] | None, named: str) -> None:
    (epoch,) = [json.loads(line) for line in (exported / "epochs.jsonl").read_text().splitlines()]
    first, *rest = epoch["sizes"]
    sizes = rest if changes is None else [{**first, **changes}, *rest]
    changed(exported, "epochs.jsonl", lambda _one: True, sizes=sizes)
    consistent(exported)
    assert any(named in one for one in differences(exported)), differences(exported)


@pytest.mark.django_db
def test_evidence_of_a_closed_month_tells_of_no_later_change(container: Container, tmp_path: Path) -> None:
    """It runs on, with a change just before the month's end, one after it, and one between the last reading in it and the next."""
    edge = (NEXT - START).total_seconds()
    instants = [
        (edge - 500.0, 2 * GIB, 100),
        (edge - 0.25, GIB, 200),
        (edge + 0.02, 3 * GIB, 300),
        (edge + 900, GIB, 400),
    ]

    def sized(seconds: float) -> Observation:
        sizes = tuple(
            Size(BEGAN_NS + round(when * NS), BEGAN_NS + round(when * NS), round((START.timestamp() + when) * 10**6), memory, millis)
            for when, memory, millis in instants
            if when < seconds
        )  # fmt: skip
        return replace(observed(container, seconds, cpu_ns=round(seconds)), limits=(GIB, 1500), sizes=sizes)

    services.take([sized(1), sized(edge - 0.5), sized(edge + 0.05), sized(edge + 3500)])
    published(CPU, MEMORY)
    periods.close(period().pk, NEXT + HOUR)
    bundle.write(period(), tmp_path / "11")
    services.take([sized(edge + 3601), sized(edge + 3700)])
    services.close_lost("n", {}, LATER)
    bundle.write(period(), tmp_path / "again")
    assert (tmp_path / "11/epochs.jsonl").read_bytes() == (tmp_path / "again/epochs.jsonl").read_bytes()
    assert (tmp_path / "11/epochs.jsonl").read_text().count('"told_boottime_ns"') == 3
    periods.close(period(NEXT).pk, LATER)
    bundle.write(period(NEXT), tmp_path / "12")
    assert differences(tmp_path / "11") == []
    assert differences(tmp_path / "12", tmp_path / "11") == []
    day = "".join(raw.epochs(container.tenant, NEXT - HOUR, NEXT))
    assert day.count('"told_boottime_ns"') == 2
