"""Who takes readings in and who charges what is held do so at the same moment, the full hour: neither may wait for the other."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from console.accounts.models import Tenant
from console.metering import services
from console.metering.models import Allocation, Meter, Period, StaleDay, UsageRecord
from console.metering.services import resources
from console.metering.splitting import hour_of
from console.workloads.models import Container
from tests.console.test_metering import START
from tests.console.test_metering_ingest import observed

HOURS = dt.timedelta(hours=2)


@pytest.fixture
def crossed(tenant: Tenant) -> list[Container]:
    """By their ids in one order, by their tenants in the other."""
    tenants = sorted((tenant, Tenant.objects.create(name="Rival", slug="rival")), key=lambda one: one.pk, reverse=True)
    return [
        Container.objects.create(
            id=f"c{number}",
            tenant=one,
            node="n",
            name="web",
            image_reference="x",
            memory_bytes=1 << 30,
            cpu_millis=1500,
        )
        for number, one in enumerate(tenants)
    ]


def locked(found: CaptureQueriesContext, tenants: list[str]) -> list[str]:
    """Whose periods were asked for, in order."""
    table = Period._meta.db_table
    asked = [query["sql"] for query in found.captured_queries if f'FROM "{table}"' in query["sql"]]
    whose = [next(tenant for tenant in tenants if tenant in sql) for sql in asked]
    return list(dict.fromkeys(whose))


@pytest.mark.django_db
def test_looks_lock_the_months_of_tenants_in_one_order(crossed: list[Container]) -> None:
    with CaptureQueriesContext(connection) as found:
        services.take([observed(one, 30, cpu_ns=10**9) for one in crossed])
    tenants = [one.tenant_id for one in crossed]
    assert locked(found, tenants) == sorted(tenants)


@pytest.mark.django_db
def test_what_is_held_locks_them_in_the_same_order_and_is_stored_at_once(crossed: list[Container]) -> None:
    for number, one in enumerate(crossed):
        held = services.hold(resources.of_container(one), Meter.PUBLISHED_PORT, 1, START)
        Allocation.objects.filter(pk=held.pk).update(id=f"{number}{held.pk[1:]}")
    with CaptureQueriesContext(connection) as found:
        assert services.charge_allocations(START + HOURS) == 2
    tenants = [one.tenant_id for one in crossed]
    assert locked(found, tenants) == sorted(tenants)
    marks = [query["sql"] for query in found.captured_queries if f'INTO "{StaleDay._meta.db_table}"' in query["sql"]]
    assert len(marks) == 1, "the days of all are marked together, in order"
    assert set(Allocation.objects.values_list("charged_to", flat=True)) == {hour_of(START + HOURS)}
    assert UsageRecord.objects.filter(meter=Meter.PUBLISHED_PORT).count() == 4
