"""A home from before bills migrates: its records are kept, its open epochs go on from where they were charged."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, migrations
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from console.metering import services
from console.metering.models import Meter, MeterEpoch, Period, StaleDay, UsageRecord
from console.workloads.models import Container
from tests.console.test_metering import START, at, final

BEFORE = [("metering", "0002_epochs_know_their_last_reading")]


WITH_LOOKUPS = ("metering", "0018_lean_records")
WITHOUT_LOOKUPS = ("metering", "0019_lookups_that_writers_did")


def migrated(target: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate(target)
    loader = MigrationExecutor(connection).loader
    others = [key for key in loader.graph.leaf_nodes() if key[0] not in {app for app, _name in target}]
    return loader.project_state([*target, *others]).apps


@pytest.mark.django_db(transaction=True)
def test_a_home_from_before_bills_goes_on() -> None:
    latest = [key for key in MigrationExecutor(connection).loader.graph.leaf_nodes() if key[0] == "metering"]
    old = migrated(BEFORE)
    try:
        tenant = old.get_model("accounts", "Tenant").objects.create(name="Acme", slug="acme")
        container = old.get_model("workloads", "Container").objects.create(
            tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500
        )
        epoch = old.get_model("metering", "MeterEpoch").objects.create(
            tenant=tenant, container=container, number=1, node="n", started_at=START, memory_bytes=1 << 30, cpu_millis=1500,
            sequence=1, read_at=START + dt.timedelta(seconds=10), read_boottime_ns=10**12 + 10**10,
            counted={"cpu": 1000, "net_rx": 7, "memory_used": 4096},
        )  # fmt: skip
        old.get_model("metering", "UsageRecord").objects.create(
            id="a" * 64, tenant=tenant, epoch=epoch, meter="cpu", window=START.replace(minute=0, second=0), starts_at=START,
            ends_at=START + dt.timedelta(seconds=10), quantity=1000, quality="exact",
        )  # fmt: skip
    finally:
        migrated(latest)
    record = UsageRecord.objects.get()
    assert (record.resource.name, record.resource.tenant_slug) == ("web", "acme")
    assert record.billed_in == Period.objects.get()
    assert (record.billed_in.starts_at.day, record.billed_in.ends_at.month) == (1, 12)
    assert StaleDay.objects.get().day == START.replace(hour=0, minute=0, second=0), "its day gets a sum"
    found = MeterEpoch.objects.get()
    assert found.generation == 1
    services.ingest_final(final(Container.objects.get(), at(20, cpu_ns=1500, net_rx_bytes=9)))

    def total(meter: Meter) -> int:
        return int(UsageRecord.objects.filter(meter=meter).aggregate(sum=Sum("quantity"))["sum"])

    assert (total(Meter.CPU), total(Meter.NET_RX)) == (1500, 2)
    assert total(Meter.CPU_LIMIT) == 1500 * 10 * 10**6


# ------------------------------------------------------------------------------------------------ several fields at once


@pytest.fixture
def with_lookups() -> Iterator[None]:
    latest = [key for key in MigrationExecutor(connection).loader.graph.leaf_nodes() if key[0] == "metering"]
    migrated([WITH_LOOKUPS])
    yield
    migrated(latest)


@pytest.mark.django_db(transaction=True)
def test_records_lose_their_lookups_as_field_by_field_and_are_written_anew_once(with_lookups: None) -> None:
    table, loader = UsageRecord._meta.db_table, MigrationExecutor(connection).loader
    before = described(table)
    assert lookups(table) == {"allocation_id", "epoch_id", "resource_id"}
    together = loader.get_migration(*WITHOUT_LOOKUPS)
    one_by_one = migrations.Migration(together.name, together.app_label)
    one_by_one.operations = [one for some in together.operations for one in getattr(some, "fields", [some])]
    assert len(one_by_one.operations) == len(together.operations) + 2
    found = []
    for migration in (one_by_one, together):
        state = loader.project_state([WITH_LOOKUPS])
        with CaptureQueriesContext(connection) as asked, connection.schema_editor() as editor:
            migration.apply(state, editor)
        found.append(described(table))
        assert lookups(table) == set()
        with connection.schema_editor() as editor:
            together.unapply(loader.project_state([WITH_LOOKUPS]), editor)
        assert lookups(table) == {"allocation_id", "epoch_id", "resource_id"}
        if connection.vendor == "postgresql":
            assert described(table) == before
    assert found[0] == found[1] != before
    anew = [one["sql"] for one in asked.captured_queries if f'CREATE TABLE "new__{table}"' in one["sql"]]
    assert len(anew) == (1 if connection.vendor == "sqlite" else 0)


def lookups(table: str) -> set[str]:
    """Columns that the database looks up."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, table)
    return {one["columns"][0] for one in found.values() if one["foreign_key"]}


def described(table: str) -> Any:
    """All that the database says of a table, its columns, in whatever order, indexes and constraints."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE tbl_name = %s ORDER BY name", [table])
            return {name: sorted((sql or "")[:-1].partition("(")[2].split(", ")) for name, sql in cursor.fetchall()}
        introspection = connection.introspection
        return introspection.get_table_description(cursor, table), introspection.get_constraints(cursor, table)
