"""From the spool into the database: in any order, any number of times, killed anywhere, the bill is the same."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connections
from django.db.models import Sum

from console.metering import selectors, services
from console.metering.collector import AFTER_THE_HOUR_S, BEFORE_THE_HOUR_S, Collector, seconds_to_next
from console.metering.models import Meter, MeterEpoch, Quality, Reading, Resource, UsageRecord
from console.metering.observations import Observation, encode
from console.metering.splitting import HOUR, hour_of
from console.workloads import services as workloads
from console.workloads.models import Container, PublishedPort
from runtime.api import ContainerSpec, ContainerStatus, Port, State
from runtime.engines.fake.engine import FakeEngine
from runtime.home import Home
from tests.console.test_metering import START, at, final

US = 1_000_000


def observed(container: Container | str, seconds: float, **values: int | None) -> Observation:
    from console.metering.observations import look

    seen = look(at(seconds, **values))
    id = container if isinstance(container, str) else container.pk
    return Observation(id, 1, round(START.timestamp() * US), "boot", 1, seen.at_us, seen.ns, seen.values, seen.gauge)


def many(container: Container) -> list[Observation]:
    return [observed(container, 7 + 60 * n, cpu_ns=10**9 * n + n % 7, net_rx_bytes=n * 1001) for n in range(150)]


def rows() -> list[tuple[Any, ...]]:
    return list(
        UsageRecord.objects.order_by("pk").values_list("pk", "meter", "window", "quantity", "quality", "starts_at")
    )


def killed(work: Callable[[], Any], point: str) -> None:
    connections.close_all()
    child = os.fork()
    if child == 0:
        os.environ["SLIPWAY_FAILPOINT"] = point
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{point} was not passed"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.django_db
def test_shuffled_and_repeated_observations_make_the_same_records(container: Container) -> None:
    looks = many(container)
    services.take(looks)
    services.ingest_final(final(container, at(9100, cpu_ns=10**12, net_rx_bytes=10**6)))
    plain = rows()
    UsageRecord.objects.all().delete()
    Reading.objects.all().delete()
    MeterEpoch.objects.all().delete()
    shuffled = looks + looks[::3]
    random.Random(7).shuffle(shuffled)
    services.take(shuffled)
    services.take(looks)
    services.ingest_final(final(container, at(9100, cpu_ns=10**12, net_rx_bytes=10**6)))
    assert rows() == plain
    assert sum(row[3] for row in plain if row[1] == Meter.CPU) == 10**12


@pytest.mark.django_db
def test_only_the_share_across_the_hour_is_an_estimate(container: Container) -> None:
    services.take(many(container))
    divided = UsageRecord.objects.filter(meter=Meter.CPU, quality=Quality.ESTIMATED)
    assert {(record.window, record.ends_at - record.starts_at < HOUR / 60) for record in divided} == {
        (hour_of(START) + n * HOUR, True) for n in range(4)
    }
    assert UsageRecord.objects.filter(meter=Meter.CPU_LIMIT).exclude(quality=Quality.EXACT).count() == 0
    assert Reading.objects.filter(meter=Meter.CPU).count() == 1 + 2 * 2 + 2 - 1, "the first, and two around each hour"
    assert set(Reading.objects.values_list("source", flat=True)) >= {"cpuacct.usage"}


@pytest.mark.django_db
def test_a_window_tells_whether_a_difference_was_divided_at_its_edge(container: Container) -> None:
    services.take(many(container))
    services.ingest_final(final(container, at(9100, cpu_ns=10**12, net_rx_bytes=10**6)))
    hours = list(selectors.usage(None, hour_of(START), hour_of(START) + 4 * HOUR, by="hour"))
    assert {row.quality for row in hours} == {"estimated"}
    (whole,) = selectors.usage(None, hour_of(START), hour_of(START) + 4 * HOUR, by="total")
    assert whole.quality == "exact"
    (part,) = selectors.usage(None, hour_of(START) + HOUR, hour_of(START) + 2 * HOUR, by="total")
    assert part.quality == "estimated"


@pytest.mark.django_db
def test_a_container_that_runs_shows_what_it_used_until_its_last_look(container: Container) -> None:
    looks = many(container)
    services.take(looks)
    (shown,) = selectors.usage(None, hour_of(START), hour_of(START) + 4 * HOUR, by="total")
    assert shown.vcpu_seconds is not None
    assert shown.vcpu_seconds * 10**9 == looks[-1].values[Meter.CPU]
    assert shown.net_rx_bytes == looks[-1].values[Meter.NET_RX]
    hours = list(selectors.usage(None, hour_of(START), hour_of(START) + 4 * HOUR, by="hour"))
    assert sum(hour.vcpu_seconds or 0 for hour in hours) == shown.vcpu_seconds


@pytest.mark.django_db
def test_a_rename_alters_no_earlier_record(container: Container) -> None:
    services.take([observed(container, 1, cpu_ns=5)])
    Container.objects.filter(pk=container.pk).update(name="renamed")
    services.ingest_final(final(container, at(3, cpu_ns=9)))
    named = UsageRecord.objects.filter(meter=Meter.CPU).order_by("starts_at").values_list("resource__name", "quantity")
    assert list(named) == [("web", 5), ("renamed", 4)]
    assert Resource.objects.count() == 2


@pytest.mark.django_db
def test_a_database_that_is_away_for_days_loses_nothing(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector(FakeEngine(Home(tmp_path)), tmp_path)
    spool = collector._spool
    with monkeypatch.context() as away:

        def refuse(*_: object) -> None:
            raise OperationalError("away")

        away.setattr(services, "take", refuse)
        for n in range(3 * 24):
            spool.append([encode(observed(container, 7 + 3600 * n, cpu_ns=10**9 * n))])
            with pytest.raises(OperationalError):
                collector.deliver()
    assert collector.deliver() == 72
    assert collector.deliver() == 0
    assert UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"] == 71 * 10**9
    assert UsageRecord.objects.filter(meter=Meter.CPU).values("window").distinct().count() == 72


@pytest.mark.django_db
def test_a_look_is_at_what_runs_and_nothing_else(tmp_path: Path) -> None:
    engine = FakeEngine(Home(tmp_path))
    engine.build("busybox")
    for id in ("cruns", "cwaits"):
        engine.create(ContainerSpec(id, "tenant1", id, engine.image("busybox").id, command=("sleep", "100")))
    engine.start("cruns")
    collector = Collector(engine, tmp_path)
    assert collector.collect() == 1
    assert collector.collect(["cruns", "cwaits", "cgone"]) == 1
    assert collector.collect(["cwaits"]) == 0
    seen: list[dict[str, Any]] = []
    collector._spool.drain(seen.extend)
    assert [(one["container"], one["epoch"]) for one in seen if "container" in one] == [("cruns", 1)] * 2
    assert [one["tenant"] for one in seen if "tenant" in one] == ["tenant1"], "the tenant's cgroup, with a look at all"


@pytest.mark.django_db
def test_looks_at_a_start_that_cannot_be_stored_are_refused_whole(container: Container) -> None:
    """Not taken for looks at one that has ended."""
    senseless = dataclasses.replace(observed(container, 30, cpu_ns=1), limits=(1 << 20, -1))
    with pytest.raises(IntegrityError):
        services.take([senseless])
    assert not MeterEpoch.objects.exists()


def test_looks_at_a_start_that_has_ended_change_nothing(container: Container) -> None:
    services.take([observed(container, 30, cpu_ns=1)])
    services.ingest_final(final(container, at(60, cpu_ns=2)))
    before = rows()
    assert services.take([observed(container, 45, cpu_ns=1)]) == []
    assert rows() == before


def test_what_no_row_knows_is_kept_aside(container: Container, tmp_path: Path) -> None:
    collector = Collector(FakeEngine(Home(tmp_path)), tmp_path)
    collector._spool.append([encode(observed("cstranger", 1)), encode(observed(container, 1, cpu_ns=3))])
    assert collector.deliver() == 2
    assert UsageRecord.objects.filter(meter=Meter.CPU).count() == 1
    kept: list[dict[str, Any]] = []
    collector._strangers.drain(kept.extend)
    assert [one["container"] for one in kept] == ["cstranger"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", ["ingest.stored", "drain.taken", "drain.moved"])
def test_a_kill_while_delivering_changes_no_sum(container: Container, tmp_path: Path, point: str) -> None:
    collector = Collector(FakeEngine(Home(tmp_path)), tmp_path)
    for look in many(container):
        collector._spool.append([encode(look)])
    killed(collector.deliver, point)
    collector.deliver()
    services.ingest_final(final(container, at(9100, cpu_ns=10**12, net_rx_bytes=10**6)))
    assert UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"] == 10**12
    assert UsageRecord.objects.filter(meter=Meter.NET_RX).aggregate(sum=Sum("quantity"))["sum"] == 10**6


@pytest.mark.django_db(transaction=True)
def test_a_kill_while_the_final_reading_is_taken_in_takes_it_in_once(container: Container) -> None:
    last = final(container, at(5, cpu_ns=77))
    killed(lambda: services.ingest_final(last), "final.ingested")
    assert services.ingest_final(last)
    assert UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"] == 77


def test_looks_are_taken_each_minute_and_around_each_hour() -> None:
    now, seen = 7200.0 - 130, []
    while now < 7200 + 130:
        now += seconds_to_next(now, 60)
        seen.append(now - 7200)
    assert -BEFORE_THE_HOUR_S in seen
    assert any(0 < moment <= 2 * AFTER_THE_HOUR_S for moment in seen)
    assert max(later - sooner for sooner, later in itertools.pairwise(seen)) <= 60


@pytest.mark.django_db
def test_held_amounts_are_exact_intervals(container: Container) -> None:
    begin, end = START, START + 2 * HOUR + HOUR / 7
    services.hold_ports(container, 3, begin)
    services.hold_ports(container, 3, begin + HOUR)  # said again
    assert services.charge_allocations(START + HOUR) == 1
    assert services.charge_allocations(START + HOUR) == 0
    services.hold_ports(container, 0, end)
    services.release_ports(container, end)
    held = UsageRecord.objects.filter(meter=Meter.PUBLISHED_PORT).order_by("window")
    assert sum(record.quantity for record in held) == 3 * ((end - begin).total_seconds() * US)
    assert {record.quality for record in held} == {Quality.EXACT}
    assert held[0].starts_at == begin
    assert [before.ends_at for before in held][:-1] == [after.starts_at for after in held][1:]


def told(container: Container, epoch: int, begin: float, end: float | None = None) -> None:
    """What the engine says of a start, with the seconds after START."""
    begun, finished = START.timestamp() + begin, None if end is None else START.timestamp() + end
    workloads.observe(
        ContainerStatus(
            container.pk, container.tenant_id, "web", "x", State.RUNNING if end is None else State.EXITED, epoch=epoch,
            started_at=begun, finished_at=finished, exit_code=None if end is None else 0,
            ports=(Port(80, host_port=8080), Port(81, host_port=9999)),
        )
    )  # fmt: skip


@pytest.mark.django_db
def test_ports_of_a_start_that_had_ended_when_it_was_told_of_are_billed(container: Container) -> None:
    """As of one that a restart policy makes and that falls at once.  Between two starts nothing is held, whoever missed the first's end."""
    for port, wanted in ((80, 8080), (81, None)):
        PublishedPort.objects.create(container=container, container_port=port, requested_port=wanted, host_port=wanted)
    told(container, 1, 0, 7)
    told(container, 1, 0, 7)
    told(container, 2, 20)
    services.ingest_final(dataclasses.replace(final(container, at(50), epoch=2), started_at=START.timestamp() + 20))
    told(container, 3, 100)
    told(container, 3, 100, 130)
    told(container, 4, 200)
    told(container, 5, 300, 311)
    held = UsageRecord.objects.filter(meter=Meter.PUBLISHED_PORT).values_list("starts_at", "quantity")
    times = [(7, 0), (30, 20), (30, 100), (100, 200), (11, 300)]
    assert sum(quantity for _, quantity in held) == sum(2 * seconds * US for seconds, _ in times)
    assert {START + HOUR / 3600 * begin for _, begin in times} <= {starts_at for starts_at, _ in held}
