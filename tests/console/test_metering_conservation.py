"""The tenant's own cgroup beside the sum of its containers' records: what is lost is seen, what only lies at an edge is told apart."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from console.accounts.models import Tenant, User
from console.metering import services
from console.metering.collector import Collector
from console.metering.models import MeterEpoch, TenantCgroup, TenantHour
from console.metering.observations import TotalLook
from console.metering.selectors.conservation import by_tenant, conservation
from console.metering.services import totals
from console.metering.splitting import HOUR, hour_of
from console.workloads.models import Container
from runtime.api import ContainerSpec
from runtime.engines.fake.engine import FakeEngine
from runtime.home import Home
from tests.console.test_metering import START, begun, final
from tests.console.test_metering import at as counters
from tests.console.test_metering_ingest import killed, observed

HOUR_1 = hour_of(START)
HOUR_2 = HOUR_1 + HOUR
S = 10**9
pytestmark = pytest.mark.django_db


def total(tenant: Tenant, seconds: float, ns: int, *, before: int | None = None, inode: int = 7) -> TotalLook:
    at = START.timestamp() + seconds
    return TotalLook(
        tenant.pk,
        "boot",
        inode,
        1,
        round(at * 10**6),
        10**12 + round(seconds * S),
        ns if before is None else before,
        ns,
    )


def use(container: Container, *looks: tuple[float, int]) -> None:
    """Of the only container and of the tenant's cgroup, at the same instants."""
    services.take([observed(container, at, cpu_ns=ns) for at, ns in looks])
    totals.take([total(container.tenant, at, ns) for at, ns in looks], "n")


def lose_123_ns(container: Container) -> None:
    """In the second hour, with 50 ns used across its beginning."""
    looks = (5, 0), (15, 50), (3500, S)
    services.take([observed(container, at, cpu_ns=ns) for at, ns in (*looks, (3620, S))])
    found = [total(container.tenant, at, ns) for at, ns in (*looks, (3550, S + 123), (3620, S + 123))]
    totals.take(found, "n")


def hours(tenant: Tenant) -> list[tuple[dt.datetime, int, str]]:
    found = conservation(tenant, HOUR_1, HOUR_1 + 48 * HOUR)
    return [(hour.window, hour.error, hour.verdict) for hour in reversed(found)]


def test_a_container_that_is_read_beside_its_tenant_leaves_no_error(container: Container) -> None:
    use(container, (5, 2 * S), (11, 5 * S + 1), (3500, 60 * S), (3615, 70 * S))
    assert hours(container.tenant)[:2] == [(HOUR_1, 0, "exact"), (HOUR_2, 0, "exact")]


def test_what_was_used_and_is_in_no_record_is_shown_to_the_nanosecond(container: Container) -> None:
    lose_123_ns(container)
    (found,) = conservation(container.tenant, HOUR_2, HOUR_2 + HOUR)
    assert (found.error, found.allowed, found.verdict) == (123, 50, "apart")


def test_what_may_lie_across_an_edge_is_told_apart_from_a_loss(container: Container) -> None:
    use(container, (5, 0))
    services.take([observed(container, 12, cpu_ns=S)])
    totals.take([total(container.tenant, 15, S)], "n")  # another instant: time divides it otherwise
    assert [(verdict, error != 0) for _, error, verdict in hours(container.tenant)[:1]] == [("within", True)]


def test_an_hour_that_is_not_over_is_not_judged(container: Container) -> None:
    use(container, (20, S), (60, 3 * S))
    assert hours(container.tenant)[-1] == (HOUR_2, 0, "open")


def test_a_cgroup_that_ran_long_before_anybody_looked_begins_with_its_first_look(container: Container) -> None:
    begun(container)
    late = 3 * 86400.0 + 60
    totals.take([total(container.tenant, late, 900 * S), total(container.tenant, late + 60, 901 * S)], "n")
    found = conservation(container.tenant, HOUR_1, START + dt.timedelta(days=4))
    assert [(hour.counted, hour.verdict) for hour in found] == [(S, "partial")]


def test_looks_twice_and_in_any_order_are_once(container: Container) -> None:
    begun(container)
    looks = [total(container.tenant, 60 * n, n * S + n % 7) for n in range(1, 150)]
    totals.take(looks, "n")
    once = list(TenantHour.objects.order_by("window").values_list("window", "quantity", "uncertain"))
    totals.take(reversed(looks), "n")
    TenantHour.objects.all().delete()
    TenantCgroup.objects.all().delete()
    totals.take([*reversed(looks[:70]), *looks[:3]], "n")
    totals.take([*looks[60:], *looks[:10]], "n")
    assert list(TenantHour.objects.order_by("window").values_list("window", "quantity", "uncertain")) == once
    assert sum(quantity for _, quantity, _ in once) == 149 * S + 149 % 7


def test_a_cgroup_that_was_made_anew_counts_from_zero(container: Container) -> None:
    use(container, (20, 5 * S))
    services.ingest_final(final(container, counters(30, cpu_ns=5 * S)))
    MeterEpoch.objects.create(
        id="e2", tenant=container.tenant, container=container, number=2, node="n", memory_bytes=1, cpu_millis=1,
        started_at=START + dt.timedelta(seconds=100),
    )  # fmt: skip
    totals.take([total(container.tenant, 110, 2 * S, inode=8)], "n")
    assert sum(TenantHour.objects.values_list("quantity", flat=True)) == 7 * S
    assert all(TenantHour.objects.values_list("watched", flat=True))


@pytest.mark.django_db(transaction=True)
def test_the_node_reads_both_into_its_spool_and_a_kill_changes_nothing(tenant: Tenant, tmp_path: Path) -> None:
    engine = FakeEngine(Home(tmp_path))
    image = engine.build("busybox")
    now = timezone.now()
    for number in range(3):
        row = Container.objects.create(
            tenant=tenant,
            node=settings.NODE,
            name=f"c{number}",
            image_reference="x",
            memory_bytes=1 << 26,
            cpu_millis=500,
        )
        engine.create(ContainerSpec(row.pk, tenant.pk, row.name, image.id, command=("sleep", "1000")))
        services.begin(engine.start(row.pk), row)
    collector = Collector(engine, tmp_path)
    assert collector.collect() == 3
    killed(collector.deliver, "ingest.stored")
    killed(collector.deliver, "drain.taken")
    collector.deliver()
    (found,) = conservation(tenant, hour_of(now), now + HOUR)
    assert found.counted > 0
    assert 0 <= found.error <= found.counted, "the fake's containers go on between the two readings"
    cgroup = TenantCgroup.objects.get()
    assert cgroup.value == found.counted
    collector.deliver()
    assert conservation(tenant, hour_of(now), now + HOUR)[0].counted == found.counted


def test_both_are_shown_to_the_tenant_and_to_admins_and_to_nobody_else(
    container: Container, member: User, outsider: User, admin: User
) -> None:
    lose_123_ns(container)
    client, day = Client(), f"{HOUR_2:%Y-%m-%d}"
    client.force_login(member)
    page = client.get(f"/usage/metering-error/?day={day}").content.decode()
    for figure in ("1,000,000,098", "999,999,975", "123"):
        assert figure in page
    assert f"/usage/records/?meter=cpu&amp;from={HOUR_2:%Y-%m-%dT%H:00}" in page
    client.force_login(outsider)
    assert "1,000,000" not in client.get(f"/usage/metering-error/?day={day}").content.decode()
    assert client.get("/admin/metering-error/").status_code == 404
    client.force_login(admin)
    page = client.get(f"/admin/metering-error/?day={day}").content.decode()
    assert "Acme" in page
    assert f"?tenant={container.tenant_id}&amp;day={day}" in page
    assert (
        "1,000,000,098" in client.get(f"/admin/metering-error/?day={day}&tenant={container.tenant_id}").content.decode()
    )
    assert client.get("/usage/metering-error/?day=soon").status_code == 422


def test_more_tenants_and_hours_are_no_more_queries(container: Container, admin: User) -> None:
    client = Client()
    client.force_login(admin)
    day = f"/admin/metering-error/?day={HOUR_2:%Y-%m-%d}"

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(day).status_code == 200
        return len(queries)

    use(container, (20, S), (60, 2 * S))
    client.get(day)
    one = asked()
    for number in range(5):
        other = Tenant.objects.create(name=f"T{number}", slug=f"t{number}")
        row = Container.objects.create(
            tenant=other, node="n", name="web", image_reference="x", memory_bytes=1, cpu_millis=1
        )
        use(row, (20, S), (60, 2 * S), (3700, 9 * S))
    assert asked() == one
    assert len(by_tenant(conservation(None, HOUR_1, HOUR_1 + 48 * HOUR))) == 6


def test_the_skew_of_a_reading_counts_as_uncertain_at_an_edge(tenant: Tenant) -> None:
    totals.take([replace(total(tenant, 5, S), before=S - 9)], "n")
    totals.take([replace(total(tenant, 15, 3 * S), before=3 * S - 4)], "n")
    edge = TenantHour.objects.get(window=HOUR_2)
    assert edge.uncertain == 2 * S + 13


def test_a_look_writes_the_cgroup_that_it_is_at_and_no_earlier_one(container: Container) -> None:
    services.take([observed(container, 1, cpu_ns=0)])
    for number in range(1, 4):
        totals.take([total(container.tenant, number, number * S, inode=number)], "n")
    with CaptureQueriesContext(connection) as found:
        totals.take([total(container.tenant, second, second * S, inode=3) for second in (5, 6)], "n")
    table = TenantCgroup._meta.db_table
    assert len([one for one in found.captured_queries if one["sql"].startswith(f'UPDATE "{table}"')]) == 1
    assert list(TenantCgroup.objects.order_by("inode").values_list("inode", "value")) == [
        (1, S),
        (2, 2 * S),
        (3, 6 * S),
    ]


@pytest.mark.parametrize("days", [-4 * 365, 36 * 365])
def test_a_clock_that_was_wrong_by_years_fills_no_years_with_hours(container: Container, days: int) -> None:
    wrong = days * 86400 * 10**6
    looks = [total(container.tenant, 60 * n, n * S) for n in range(1, 9)]
    looks[:4] = [replace(one, at_us=one.at_us + wrong) for one in looks[:4]]
    totals.take(looks, "n")
    found = dict(TenantHour.objects.values_list("window", "quantity"))
    assert len(found) <= 4
    assert found[HOUR_2] == 4 * S
