"""A home from before bills migrates: its records are kept, its open epochs go on from where they were charged."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Sum

from console.metering import services
from console.metering.models import Meter, MeterEpoch, Period, StaleDay, UsageRecord
from console.workloads.models import Container
from tests.console.test_metering import START, at, final

BEFORE = [("metering", "0002_epochs_know_their_last_reading")]


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
