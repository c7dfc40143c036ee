"""Usage by the labels that containers had when it was metered: on the pages, in FOCUS's Tags, in the evidence."""

from __future__ import annotations

import csv
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from console.accounts.models import Tenant, User
from console.metering import services
from console.metering.exports import bundle
from console.metering.exports.focus_check import faults
from console.metering.models import Meter, Resource, UsageRecord
from console.metering.selectors import labels, records
from console.metering.selectors.breakdown import COST, Asked, amounts, breakdown
from console.metering.selectors.labels import Label
from console.metering.selectors.records import Wanted
from console.metering.services import cycle, periods, resources, sums
from console.metering.services.rating import rate_period
from console.metering.spans import DAY, Span, day_of
from console.workloads.models import Container
from tests.console.test_metering import START, at, final
from tests.console.test_metering_bills import CPU, MEMORY, MONTH, NEXT, period, published
from tests.console.test_metering_exports import changed, consistent, differences
from tests.console.test_metering_ingest import observed

pytestmark = pytest.mark.django_db
NOVEMBER = Span(MONTH, NEXT)
ODD = 'a"b.c$[0]__x'
"""A name that a path within JSON would take apart."""


def made(tenant: Tenant, name: str, **labels: str) -> Container:
    return Container.objects.create(
        tenant=tenant, node="n", name=name, image_reference="x", memory_bytes=1 << 30, cpu_millis=1500, labels=labels
    )


@pytest.fixture
def used(tenant: Tenant) -> dict[str, Container]:
    """CPU of 1, 2, 4 and 8 seconds; the first changes its team half way."""
    found = {
        "moved": made(tenant, "moved", team="red", **{ODD: "1", "5": "five"}),
        "red": made(tenant, "red", team="red"),
        "blue": made(tenant, "blue", team="blue"),
        "none": made(tenant, "plain"),
    }
    hour = 3600
    services.take([observed(found["moved"], 5, cpu_ns=10**9), observed(found["moved"], 2 * hour, cpu_ns=10**9)])
    Container.objects.filter(pk=found["moved"].pk).update(labels={"team": "blue"})
    services.ingest_final(final(found["moved"], at(3 * hour, cpu_ns=3 * 10**9)))
    for name, seconds in (("red", 4), ("blue", 8), ("none", 16)):
        services.ingest_final(final(found[name], at(hour, cpu_ns=seconds * 10**9)))
    return found


def by_team(step: str, what: str = "cpu", only: Label | None = None) -> dict[str, int]:
    asked = Asked(None, NOVEMBER, step, "label", what, label="team", only=only)  # type: ignore[arg-type]
    return {key: amount for key, amount in amounts(asked, NOVEMBER).items() if amount}


@pytest.mark.parametrize("step", ["hour", "day", "month"])
@pytest.mark.parametrize("summed", [False, True])
def test_the_labels_are_those_of_when_it_was_metered(used: dict[str, Container], step: str, summed: bool) -> None:
    if summed:
        cycle.turn(START + DAY)
    assert by_team(step) == {"red": 5 * 10**9, "blue": 10 * 10**9, "": 16 * 10**9}
    asked = Asked(None, NOVEMBER, step, "container", "cpu", only=Label("team", "red"))  # type: ignore[arg-type]
    assert amounts(asked, NOVEMBER) == {used["moved"].pk: 10**9, used["red"].pk: 4 * 10**9}
    assert by_team(step, only=Label("team", "")) == {"": 16 * 10**9}
    assert by_team(step, only=Label(ODD, "1")) == {"red": 10**9}
    assert by_team(step, only=Label("5", "five")) == {"red": 10**9}
    assert by_team(step, only=Label("team", "green")) == {}


def test_costs_by_a_label_sum_to_the_bill(used: dict[str, Container]) -> None:
    published(CPU, MEMORY)
    run = rate_period(period().pk)
    costs = by_team("day", COST)
    assert set(costs) == {"red", "blue", ""}
    assert sum(costs.values()) == pytest.approx(int(run.total * 10**9), abs=2)
    assert by_team("day", COST, Label("team", "red")) == {"red": costs["red"]}


def test_what_runs_counts_by_its_labels(tenant: Tenant) -> None:
    container = made(tenant, "runs", team="green")
    services.take([observed(container, 20, cpu_ns=5), observed(container, 60, cpu_ns=12)])
    assert by_team("hour") == {"green": 12}
    assert by_team("hour", only=Label("team", "red")) == {}


def test_records_are_found_by_a_label_and_sum_to_the_figure(used: dict[str, Container], tenant: Tenant) -> None:
    for value, seconds in (("red", 5), ("blue", 10), ("", 16)):
        wanted = Wanted(tenant, NOVEMBER, meter="cpu", label=Label("team", value))
        (total,) = records.totals(wanted)
        assert total.quantity == seconds * 10**9
        if value:
            assert {row.record.resource.labels["team"] for row in records.page(wanted, size=50).rows} == {value}


def test_a_resource_without_labels_is_the_row_that_it_was_before_there_were_any(tenant: Tenant) -> None:
    """So records of a container that runs over the upgrade go on under one row."""
    plain = resources.of_container(made(tenant, "plain"))
    again = resources.described(tenant, Resource.Kind.CONTAINER, plain.identity, "plain", "n", image="x")
    assert plain.pk == again.pk
    assert plain.pk != resources.of_container(made(tenant, "other", team="red")).pk
    said = [tenant.pk, tenant.slug, tenant.name, "container", plain.identity, "plain", "x", "n"]
    assert plain.pk == hashlib.sha256(json.dumps(said).encode()).hexdigest()


def test_focus_has_them_as_tags_and_a_change_of_them_is_named(used: dict[str, Container], tmp_path: Path) -> None:
    published(CPU, MEMORY)
    periods.close(period().pk, NEXT)
    folder = tmp_path / "november"
    bundle.write(period(), folder)
    assert differences(folder) == []
    for version in ("1.2", "1.3"):
        path = folder / f"focus-{version}.csv"
        assert list(faults(path.open(newline=""), version)) == []
        tags = {row["ResourceName"]: json.loads(row["Tags"]) for row in csv.DictReader(path.open(newline=""))
                if row["ResourceName"] in {"red", "plain"}}  # fmt: skip
        assert tags == {"red": {"team": "red"}, "plain": {}}
    moved = [json.loads(row["Tags"]) for row in csv.DictReader((folder / "focus-1.3.csv").open(newline=""))
             if row["ResourceName"] == "moved"]  # fmt: skip
    assert {tag["team"] for tag in moved} == {"red", "blue"}
    before = (folder / "resources.jsonl").read_bytes()
    Container.objects.update(labels={"team": "black"})
    bundle.write(period(), tmp_path / "again")
    assert (tmp_path / "again/resources.jsonl").read_bytes() == before, "a later change alters nothing earlier"
    changed(folder, "resources.jsonl", lambda one: one.get("labels") == {"team": "red"}, labels={"team": "blue"})
    consistent(folder)
    assert any("Tags" in one for one in differences(folder))


def test_the_pages_show_them_and_a_tenant_sees_its_own_alone(
    tenant: Tenant, member: User, outsider: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    container = made(tenant, "mine", team="<b>red", secret="plans")
    reading = final(container, at(60, cpu_ns=7 * 10**9))
    services.ingest_final(reading)
    UsageRecord.objects.update(window=day_of(now))
    browser, other = Client(), Client()
    browser.force_login(member)
    other.force_login(outsider)
    page = browser.get("/usage/?what=cpu&by=label:team").content.decode()
    assert "&lt;b&gt;red" in page
    assert "<b>red" not in page
    assert "7.000 vCPU" in page
    assert "by=label%3Asecret" in page
    assert "7.000" not in browser.get("/usage/?what=cpu&by=label:team&with=team=blue").content.decode()
    assert "7.000" in browser.get("/usage/?what=cpu&with=secret=plans").content.decode()
    shown = browser.get(
        f"/usage/records/?from={day_of(now):%Y-%m-%d}&to={day_of(now) + DAY:%Y-%m-%d}&with=secret=plans"
    )
    assert "secret=plans" in shown.content.decode()
    for url in ("/usage/?by=label:secret&what=cpu", "/usage/records/?with=secret=plans"):
        text = other.get(url).content.decode()
        assert container.pk not in text
        assert "7.000" not in text
    assert "plans" not in other.get("/usage/?by=label:secret&what=cpu").content.decode()
    assert labels.names(tenant) == ["secret", "team"]
    assert UsageRecord.objects.filter(meter=Meter.CPU).aggregate(sum=Sum("quantity"))["sum"] == 7 * 10**9


@pytest.mark.parametrize("value", ["blue ", " ", "a=b", "&with=team=red", "%20"])
def test_a_value_leads_to_its_own_records_whatever_is_in_it(tenant: Tenant, member: User, value: str) -> None:
    for team, cpu in ((value, 7), ("blue", 1), ("red", 2), ("", 4)):
        services.ingest_final(final(made(tenant, f"c{cpu}", team=team), at(60, cpu_ns=cpu * 10**9)))
    browser = Client()
    browser.force_login(member)
    page = html.unescape(browser.get(f"/usage/?range=month&what=cpu&by=label:team&to={NEXT:%Y-%m-%d}").content.decode())
    (link,) = re.findall(r'<a href="([^"]+)">7\.000', page)
    assert set(re.findall(r">(c\d)<", browser.get(link).content.decode())) == {"c7"}


def test_a_figure_of_two_labels_leads_to_the_records_of_both(tenant: Tenant, member: User) -> None:
    for name, env, team, cpu in (
        ("ours", "prod", "red", 7),
        ("tried", "test", "red", 1),
        ("theirs", "prod", "blue", 2),
    ):
        services.ingest_final(final(made(tenant, name, env=env, team=team), at(60, cpu_ns=cpu * 10**9)))
    running = made(tenant, "running", env="prod", team="red"), made(tenant, "trying", env="test", team="red")
    services.take([observed(one, at, cpu_ns=at * 10**8) for one in running for at in (10, 30)])
    sums.refresh()
    browser = Client()
    browser.force_login(member)
    asked = f"range=month&what=cpu&by=label:team&with=env%3Dprod&to={NEXT:%Y-%m-%d}"
    page = html.unescape(browser.get(f"/usage/?{asked}").content.decode())
    (link,) = re.findall(r'<a href="([^"]+)">10\.000', page)
    found = " ".join(browser.get(link).content.decode().split())
    assert {"ours", "running"} == set(re.findall(r'<a href="/containers/[^"]+">(\w+)</a>', found))
    assert "+ 2 used since the last of them = 10 vCPU·s" in found
    assert "env=prod" in found
    (again,) = re.findall(r'name="also" value="([^"]+)"', found)
    assert again == "env=prod", "what is asked for from there keeps it"


def test_a_label_s_chart_has_its_values(used: dict[str, Container]) -> None:
    found: Any = breakdown(Asked(None, NOVEMBER, "day", "label", "cpu", label="team"))
    assert [part.key for part in found.parts] == ["", "blue", "red"]
    assert found.total == 31 * 10**9
