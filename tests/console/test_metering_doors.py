"""Totals on the screen, in CSV and in JSON are the records' sums, and nobody else's."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from decimal import Decimal

import pytest
from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from console.accounts.models import User
from console.metering import services
from console.metering.models import Meter, UsageRecord
from console.metering.splitting import hour_of
from console.workloads.models import Container
from tests.console.test_metering_ingest import observed

NS = Decimal(10**9)


def streamed(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]


@pytest.mark.django_db
def test_screen_csv_and_json_say_what_the_records_say(
    container: Container, member: User, outsider: User, admin: User
) -> None:
    begin = hour_of(timezone.now())
    seen = observed(container, 0, cpu_ns=12_345_678_901, net_rx_bytes=4096)
    at = round(begin.timestamp() * 10**6)
    services.take([replace(seen, at_us=at + 10, started_us=at)])
    later = {**seen.values, "cpu": 22_345_678_902, "net_rx": 8192}
    services.take([replace(seen, at_us=at + 10**6, ns=seen.ns + 10**9, values=later, started_us=at)])
    counted = UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"]
    assert counted == 12_345_678_901, "the second look is not stored; what runs shows it all the same"
    client = Client()
    client.force_login(member)
    page = client.get("/usage/?by=hour").content.decode()
    assert re.search(r"22\.346\b", page)
    (row,) = csv.DictReader(streamed(client, "/usage/export.csv").splitlines())
    (found,) = json.loads(streamed(client, "/usage/export.json"))["containers"]
    assert Decimal(row["vcpu_seconds"]) == Decimal(found["vcpu_seconds"]) == 22_345_678_902 / NS
    assert int(row["net_rx_bytes"]) == found["net_rx_bytes"] == 8192
    client.force_login(outsider)
    assert container.id not in streamed(client, "/usage/export.csv")
    assert client.get("/usage/export.csv?all=1").status_code == 404
    client.force_login(admin)
    assert container.id in streamed(client, "/usage/export.csv?all=1")


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_an_admin_s_page_of_one_tenant_exports_that_one_s(
    container: Container, member: User, outsider: User, admin: User, kind: str
) -> None:
    services.take([observed(container, at, cpu_ns=at) for at in (5, 60)])
    mine, theirs = container.tenant_id, outsider.tenants.get().pk
    client = Client()
    client.force_login(admin)
    for tenant in (mine, theirs):
        page = client.get(f"/admin/usage/?tenant={tenant}").content.decode()
        form = page[page.index('<form class="export"') :]
        asked = "&".join(
            f"{name}={value}" for name, value in re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', form)
        )
        found = streamed(client, f"/usage/export.{kind}?{asked}&start=2026-11-01&end=2026-12-01")
        assert (container.id in found) == (tenant == mine)
    assert container.id in streamed(client, f"/usage/export.{kind}?all=1&start=2026-11-01&end=2026-12-01")
    assert client.get(f"/usage/export.{kind}?all=1&tenant=nobody").status_code == 404
    client.force_login(outsider)
    assert client.get(f"/usage/export.{kind}?all=1&tenant={mine}").status_code == 404
    assert container.id not in streamed(client, f"/usage/export.{kind}?tenant={mine}&start=2026-11-01&end=2026-12-01")
