"""The explorer: its sums are the records' and the lines', by the day or not, and every figure leads to the records behind it."""

from __future__ import annotations

import datetime as dt
import html
import re
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.db.models import Sum
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.accounts.models import Tenant, User
from console.metering import services
from console.metering.models import CostDay, CostMonth, StaleDay, UsageRecord
from console.metering.selectors import records
from console.metering.selectors.breakdown import COST, NANO, TOP, Asked, amounts, breakdown
from console.metering.selectors.idle import idle
from console.metering.selectors.records import Wanted
from console.metering.services import costs, cycle, sums
from console.metering.services.rating import rate_period
from console.metering.spans import DAY, Span, day_of
from console.metering.splitting import HOUR
from console.metering.units import total
from console.workloads.models import Container
from tests.console.test_metering import START, final
from tests.console.test_metering import at as counters
from tests.console.test_metering_bills import CPU, MEMORY, MONTH, NEXT, OUT, PriceDraft, period, published
from tests.console.test_metering_ingest import observed

pytestmark = pytest.mark.django_db
NOVEMBER = Span(MONTH, NEXT)
NOW = START + dt.timedelta(hours=30)


def made(tenant: Tenant, name: str, **more: object) -> Container:
    values = {"image_reference": "x", "memory_bytes": 1 << 30, "cpu_millis": 1500, "node": "n", **more}
    return Container.objects.create(tenant=tenant, name=name, **values)


def lived(container: Container, cpu: int, seconds: float = 90_000) -> None:
    """A life over the edge of a day."""
    services.ingest_final(final(container, counters(seconds, cpu_ns=cpu, net_tx_bytes=3 * 10**9 + cpu % 7)))


@pytest.fixture
def used(tenant: Tenant) -> list[Container]:
    """More containers than the chart has colours."""
    found = [made(tenant, f"c{number}", image_reference=f"i{number % 2}") for number in range(TOP + 3)]
    for number, one in enumerate(found):
        lived(one, (number + 1) * 10**12 + number)
    return found


def recorded(**which: object) -> int:
    return int(UsageRecord.objects.filter(**which).aggregate(sum=Sum("quantity"))["sum"] or 0)


def ask(tenant: Tenant | None, by: str = "container", what: str = "cpu", step: str = "day") -> Asked:
    return Asked(tenant, NOVEMBER, step, by, what)  # type: ignore[arg-type]


@pytest.mark.parametrize("summed", ["records", "days", "some of each"])
@pytest.mark.parametrize("step", ["day", "month", "hour"])
def test_the_sums_are_the_records_whichever_they_are_made_from(
    tenant: Tenant, used: list[Container], summed: str, step: str
) -> None:
    days = list(StaleDay.objects.order_by("day").values_list("tenant", "day"))
    assert len(days) == 2
    for mark in {"records": [], "days": days, "some of each": days[:1]}[summed]:
        sums.sum_day(*mark)
    found = breakdown(ask(tenant, step=step))
    assert found.total == recorded(meter="cpu")
    assert [part.key for part in found.parts] == [one.pk for one in reversed(used)]
    assert found.parts[0].total == recorded(meter="cpu", epoch__container=used[-1])
    assert found.others is not None
    drawn = [*found.parts[:TOP], found.others]
    assert sum(sum(part.amounts) for part in drawn) == found.total
    for number, bucket in enumerate(found.buckets):
        end = found.buckets[number + 1] if number + 1 < len(found.buckets) else NEXT
        assert sum(part.amounts[number] for part in drawn) == recorded(meter="cpu", window__gte=bucket, window__lt=end)


def test_sums_of_a_year_do_not_overflow(tenant: Tenant) -> None:
    one = made(tenant, "huge", memory_bytes=2 << 40)
    lived(one, 1, seconds=6 * 86400.0)
    sums.refresh()
    found = breakdown(ask(tenant, what="memory_limit", step="month"))
    assert found.total == (2 << 30) * 6 * 86400 * 10**6 > 2**63
    assert records.totals(Wanted(tenant, NOVEMBER, meter="memory_limit"))[0].quantity == found.total


@pytest.mark.parametrize("step", ["hour", "day", "month"])
def test_a_record_that_comes_later_is_in_the_sum(tenant: Tenant, used: list[Container], step: str) -> None:
    assert sums.refresh() == 2
    assert (sums.refresh(), StaleDay.objects.count()) == (0, 0)
    before = breakdown(ask(tenant, step=step)).total
    services.ingest_final(final(used[0], counters(50, cpu_ns=77), epoch=2))
    assert breakdown(ask(tenant, step=step)).total == before + 77
    cycle.turn(NOW)
    assert StaleDay.objects.count() == 0
    assert breakdown(ask(tenant, step=step)).total == before + 77


def test_costs_by_the_day_sum_to_the_rating(tenant: Tenant, used: list[Container]) -> None:
    published(CPU, MEMORY, OUT)
    run = rate_period(period().pk)
    nanos = CostDay.objects.aggregate(sum=Sum("nanos"))["sum"]
    assert nanos == int((run.total * NANO).to_integral_value())
    for by in ("container", "image", "meter"):
        assert breakdown(ask(tenant, by, COST)).total == nanos
    by_hour = breakdown(ask(tenant, "meter", COST, "hour"))
    assert abs(by_hour.total - nanos) <= len(by_hour.buckets) * 4
    for part in by_hour.parts:
        exact = total(*(line.cost for line in run.lines.filter(meter=part.key)))
        assert abs(part.total - exact * NANO) <= len(by_hour.buckets)
    again = rate_period(period().pk)
    assert set(CostDay.objects.values_list("run", flat=True)) == {again.pk}
    assert breakdown(ask(tenant, "meter", COST)).total == nanos


def test_a_rating_from_before_there_were_sums_gets_them(tenant: Tenant, used: list[Container]) -> None:
    published(CPU, MEMORY, OUT)
    run = rate_period(period().pk)
    once = list(
        CostDay.objects.order_by("day", "resource", "meter").values_list(
            "day", "resource", "meter", "whole", "rest", "nanos"
        )
    )
    CostDay.objects.all().delete()
    CostMonth.objects.all().delete()
    type(run).objects.update(numbers={})
    assert costs.catch_up() == 1
    assert costs.catch_up() == 0
    assert (
        list(
            CostDay.objects.order_by("day", "resource", "meter").values_list(
                "day", "resource", "meter", "whole", "rest", "nanos"
            )
        )
        == once
    )
    assert type(run).objects.get().numbers == run.numbers


def test_the_time_before_is_as_long_and_beside_it(tenant: Tenant) -> None:
    one = made(tenant, "web")
    services.take(
        [
            observed(one, at, cpu_ns=ns)
            for at, ns in ((5, 0), (86_400, 3 * 10**9), (2 * 86_400 - 100, 10 * 10**9), (2 * 86_400 + 4000, 10 * 10**9))
        ]
    )
    day = day_of(START) + DAY * 2
    found = breakdown(Asked(tenant, Span(day, day + DAY), "hour", "container", "cpu"))
    (part,) = found.parts
    assert part.before == recorded(meter="cpu", window__gte=day - DAY, window__lt=day)
    assert part.total == recorded(meter="cpu", window__gte=day, window__lt=day + DAY)


def test_what_runs_has_used_since_its_last_record_is_in_it(tenant: Tenant) -> None:
    one = made(tenant, "web")
    services.take([observed(one, 20, cpu_ns=5), observed(one, 60, cpu_ns=1000)])
    assert recorded(meter="cpu") == 5
    assert breakdown(ask(tenant)).total == breakdown(ask(tenant, "image")).total == 1000


def test_what_the_kernel_does_not_say_of_what_runs_is_no_zero(tenant: Tenant, member: User) -> None:
    """Nor is what only a volume has a figure of each container."""
    one = made(tenant, "web")
    services.take([observed(one, at, cpu_ns=at, block_read_bytes=None) for at in (20, 60)])
    assert breakdown(ask(tenant, what="cpu")).total == 60
    for what in ("block_read", "volume_size"):
        assert breakdown(ask(tenant, what=what)).parts == []
    client = Client()
    client.force_login(member)
    page = client.get("/usage/?range=day&what=block_read&to=2026-11-23T22:00").content.decode()
    assert "No usage in this time yet" in page


def test_who_looks_at_an_earlier_time_and_asks_something_else_stays_there(
    tenant: Tenant, used: list[Container], admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.utils.timezone.now", lambda: NEXT + 400 * DAY)
    client = Client()
    client.force_login(admin)
    page = html.unescape(
        client.get(f"/admin/usage/?range=month&what=cpu&by=tenant&to={NEXT:%Y-%m-%d}").content.decode()
    )
    links = re.findall(r'href="([^"]*\brange=[^"]*)"', page)
    asked = {name for link in links for name in parse_qs(urlsplit(link).query)}
    assert asked >= {"range", "by", "what", "tenant"}
    assert all("to" in parse_qs(urlsplit(link).query) for link in links)
    assert f'name="to" value="{NEXT:%Y-%m-%d}"' in page, "and in the form"
    now = html.unescape(client.get("/admin/usage/?range=month").content.decode())
    assert 'name="to"' not in now


@pytest.mark.parametrize("end", ["2026-03", "2028-03", "2028-12", "2029-02"])
def test_a_year_on_from_a_year_leaves_no_month_out(member: User, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Of which those with a leap day are longer."""
    monkeypatch.setattr("django.utils.timezone.now", lambda: dt.datetime(2031, 1, 1, tzinfo=dt.UTC))
    client = Client()
    client.force_login(member)
    page = html.unescape(client.get(f"/usage/?range=year&to={end}-01").content.decode())
    (later,) = re.findall(r'href="([^"]+)">Later<', page)
    year, month = end.split("-")
    following = html.unescape(client.get(later).content.decode())
    assert f"{end}-01 00:00 – {int(year) + 1}-{month}-01 00:00 UTC" in following


def test_tenants_are_told_apart_and_only_to_admins(
    tenant: Tenant, used: list[Container], outsider: User, admin: User, member: User
) -> None:
    other = Tenant.objects.get(slug="other")
    lived(made(other, "secret-thing"), 9 * 10**12)
    found = breakdown(ask(None, "tenant"))
    assert {part.key: part.total for part in found.parts} == {
        tenant.pk: recorded(meter="cpu", tenant=tenant), other.pk: recorded(meter="cpu", tenant=other),
    }  # fmt: skip
    client = Client()
    path = f"?range=month&what=cpu&to={NEXT:%Y-%m-%d}"
    client.force_login(member)
    page = client.get(f"/usage/{path}&by=tenant").content.decode()
    assert "secret-thing" not in page
    assert "Other" not in page
    assert client.get(f"/admin/usage/{path}&by=tenant").status_code == 404
    client.force_login(admin)
    page = client.get(f"/admin/usage/{path}&by=tenant").content.decode()
    assert "Other" in page
    assert "secret-thing" in client.get(f"/admin/usage/{path}&tenant={other.pk}").content.decode()


@pytest.mark.parametrize("what", ["cpu", "cost", "net_tx"])
@pytest.mark.parametrize("by", ["container", "image", "meter"])
def test_every_figure_leads_to_records_that_sum_to_it(
    tenant: Tenant, used: list[Container], member: User, what: str, by: str
) -> None:
    published(CPU, MEMORY, OUT)
    rate_period(period().pk)
    client = Client()
    client.force_login(member)
    page = html.unescape(client.get(f"/usage/?range=month&what={what}&by={by}&to={NEXT:%Y-%m-%d}").content.decode())
    links = set(re.findall(r'href="(/usage/records/\?[^"]+)">', page))
    assert len(links) > (2 if by != "container" else TOP)
    seen = 0
    for link in links:
        query = {key: values[0] for key, values in parse_qs(urlsplit(link).query).items()}
        answer = client.get(link)
        assert answer.status_code == 200
        span = Span(*(dt.datetime.fromisoformat(query[name]).replace(tzinfo=dt.UTC) for name in ("from", "to")))
        wanted = Wanted(tenant, span, query.get("meter", ""), query.get("container", ""), query.get("image", ""))
        for one in records.totals(wanted):
            assert f"{one.amount:f}".rstrip("0").rstrip(".") in answer.content.decode()
            seen += 1
    assert seen
    if what == "cpu" and by == "container":
        assert f"{Decimal(recorded(meter='cpu')) / 10**9:,.3f}" in page


@pytest.mark.parametrize("by", ["container", "image", "label:team"])
def test_a_figure_of_what_runs_leads_to_its_records_and_what_it_has_used_since(
    tenant: Tenant, member: User, by: str
) -> None:
    one = made(tenant, "web", labels={"team": "a"})
    other = made(tenant, "other", image_reference="y", labels={"team": "b"})
    services.take(
        [
            observed(of, at, cpu_ns=n * 10**9 * (7 if of == one else 1))
            for of in (one, other)
            for at, n in ((20, 1), (60, 5))
        ]
    )
    client = Client()
    client.force_login(member)
    page = html.unescape(client.get(f"/usage/?range=day&what=cpu&by={by}&to=2026-11-23T22:00").content.decode())
    assert "35.000 vCPU·s" in page
    (link,) = {
        link
        for link in re.findall(r'href="(/usage/records/\?[^"]+)">', page)
        if parse_qs(urlsplit(link).query).get(by.partition(":")[0].replace("label", "with"))
        in ([one.pk], ["x"], ["team=a"])
        and "to=2026-11-23T22" in link
    }
    text = " ".join(client.get(link).content.decode().split())
    assert "+ 28 used since the last of them = 35 vCPU·s" in text
    (found,) = records.totals(Wanted(tenant, NOVEMBER, "cpu"))
    assert (found.amount, found.together) == (8, 40)
    assert [one.since for one in records.totals(Wanted(tenant, NOVEMBER, "cpu", quality="estimated"))] == [0]


def test_shares_are_to_the_nearest_percent(tenant: Tenant, member: User) -> None:
    for name, cpu in (("most", 2 * 10**12), ("least", 10**12)):
        lived(made(tenant, name), cpu)
    client = Client()
    client.force_login(member)
    page = client.get(f"/usage/?range=month&what=cpu&to={NEXT:%Y-%m-%d}").content.decode()
    assert re.findall(r">(\d+)%<", page) == ["67", "33"]


def test_usage_without_a_price_is_not_told_as_none(tenant: Tenant, member: User) -> None:
    client = Client()
    client.force_login(member)
    lived(made(tenant, "one"), 10**12)
    query = f"range=month&to={NEXT:%Y-%m-%dT%H:00}"
    assert "No usage in this time yet" not in client.get(f"/usage/?{query}&what=cpu").content.decode()
    told = client.get(f"/usage/?{query}&what=cost").content.decode()
    assert "No usage in this time yet" not in told
    assert "had no price then" in told


def test_more_containers_and_hours_are_no_more_queries(tenant: Tenant, member: User, admin: User) -> None:
    published(CPU, MEMORY, OUT)
    client = Client()

    def asked(user: User, path: str) -> int:
        client.force_login(user)
        client.get(path)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        return len(queries)

    pages = [
        (user, f"{root}?range={range_}&what={what}&by={by}&to={NEXT:%Y-%m-%d}")
        for user, root in ((member, "/usage/"), (admin, "/admin/usage/"))
        for range_ in ("day", "month", "year")
        for what, by in (("cost", "container"), ("cpu", "image"), ("cost", "meter"))
    ]
    pages += [(member, f"/usage/records/?from={MONTH:%Y-%m-%d}&to={NEXT:%Y-%m-%d}")]
    for number in range(2):
        lived(made(tenant, f"a{number}", state="running"), 10**12)
    rate_period(period().pk)
    few = [asked(*page) for page in pages]
    for number in range(12):
        lived(
            made(tenant, f"b{number}", state="running", image_reference=f"i{number}"),
            10**12 + number,
            seconds=200_000.0 + number,
        )
    rate_period(period().pk)
    assert [asked(*page) for page in pages] == few
    assert max(few) < 50


def test_who_reserves_far_more_than_it_uses_is_listed_with_what_that_costs(tenant: Tenant) -> None:
    lazy, busy, gone = (
        made(tenant, name, state=state)
        for name, state in (("lazy", "running"), ("busy", "running"), ("gone", "exited"))
    )
    hours = 10
    for one, cpu, memory in ((lazy, 10**9, 1 << 20), (busy, 1500 * 36 * 10**9, 1 << 30), (gone, 0, 0)):
        services.take(
            [
                observed(one, 600 * n, cpu_ns=cpu * n // (6 * hours), memory_bytes=memory)
                for n in range(1, 6 * hours + 1)
            ]
        )
    services.ingest_final(final(gone, counters(3600.0 * hours, cpu_ns=0)))
    price = "0.01"
    published(PriceDraft("MEM", "memory_limit", "GiB-Seconds", (("0", price),)))
    rate_period(period().pk)
    (found,) = idle(tenant, NOVEMBER)
    assert found.container == lazy
    assert [part.little for part in found.parts] == [True, True]
    cost = amounts(Asked(tenant, NOVEMBER, "day", "container", COST), NOVEMBER)[lazy.pk]
    reserved, used = (
        amounts(Asked(tenant, NOVEMBER, "day", "container", meter), NOVEMBER)[lazy.pk]
        for meter in ("memory_limit", "memory_used")
    )
    assert found.unused_cost == Decimal(round(cost * (1 - Decimal(used) / reserved))) / NANO
    assert 0 < found.unused_cost < Decimal(cost) / NANO


@pytest.mark.parametrize(
    "query",
    ["range=century", "by=colour&what=joy", "by=meter&what=cpu", "range=year&to=2026-11-23T20:00", "range=week"],
)
def test_a_question_that_makes_no_sense_is_answered_with_the_usual(member: User, query: str) -> None:
    client = Client()
    client.force_login(member)
    assert client.get(f"/usage/?{query}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/usage/?to=soon",
        "/usage/?to=2026-11-23T20:30",
        "/usage/records/?from=x",
        "/usage/records/?from=2026-11-02&to=2026-11-01",
        "/usage/records/?from=1990-01-01",
        "/usage/records/?from=0001-01-01&to=0001-01-02",
        "/usage/records/?from=9999-12-01&to=9999-12-31T23:00",
        "/usage/?to=0001-01-01",
        "/usage/?to=9999-12-31T23:00&range=year",
        "/usage/metering-error/?day=0001-01-01",
        "/usage/metering-error/?day=9999-12-31",
    ],
)
def test_a_time_that_is_none_is_refused_with_a_sentence(member: User, path: str) -> None:
    client = Client()
    client.force_login(member)
    answer = client.get(path)
    assert answer.status_code == 422
    assert (
        "Write a date" in answer.content.decode()
        or "Choose" in answer.content.decode()
        or "The end" in answer.content.decode()
        or "full hour" in answer.content.decode()
    )


def test_a_wrong_time_of_records_stands_beside_what_was_typed_and_an_exports_leads_back(member: User) -> None:
    client = Client()
    client.force_login(member)
    page = client.get("/usage/records/?from=soon&meter=cpu&with=team%3Dblue").content.decode()
    assert 'id="from" name="from" value="soon"' in page
    assert 'value="team=blue"' in page
    assert '<option value="cpu" selected>' in page
    assert "Write a date" in page
    assert "No record of this kind" not in page
    browser = {"accept": "text/html", "referer": "http://testserver/usage/?range=month"}
    page = client.get("/usage/export.csv?start=soon", headers=browser).content.decode()
    assert "Write a date" in page
    assert 'href="http://testserver/usage/?range=month"' in page
    elsewhere = {**browser, "referer": "http://elsewhere.example/usage/"}
    assert "elsewhere" not in client.get("/usage/export.csv?start=soon", headers=elsewhere).content.decode()


def test_records_come_in_pages_that_meet(tenant: Tenant, used: list[Container], member: User) -> None:
    client = Client()
    client.force_login(member)
    path, seen = f"/usage/records/?from={MONTH:%Y-%m-%d}&to={NEXT:%Y-%m-%d}", []
    while path:
        page = html.unescape(client.get(path).content.decode())
        seen += re.findall(r'<tr id="r(\w+)"', page)
        found = re.search(r'href="([^"]+after=[^"]+)"', page)
        path = found[1] if found else ""
    assert len(seen) == len(set(seen)) == UsageRecord.objects.count() > 100


SPANS = {
    "a month": NOVEMBER,
    "three months": Span(MONTH - DAY * 31, NEXT + DAY * 31),
    "whole days": Span(day_of(START), day_of(START) + DAY * 2),
    "from the middle of a day": Span(day_of(START) + DAY - HOUR * 2, NEXT),
    "to the middle of a day": Span(MONTH, day_of(START) + DAY + HOUR * 5),
    "within a day": Span(day_of(START) + HOUR * 21, day_of(START) + HOUR * 23),
}


@pytest.mark.parametrize("summed", [0, 1, 2])
@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_sums_of_records_are_the_same_however_they_are_made(
    tenant: Tenant, used: list[Container], span: Span, summed: int
) -> None:
    """Of whole months and days that are summed already no record is read."""
    for mark in list(StaleDay.objects.order_by("day").values_list("tenant", "day"))[:summed]:
        sums.sum_day(*mark)
    asked = {"window__gte": span.start, "window__lt": span.end}
    for wanted, which in (
        (Wanted(tenant, span), {}),
        (Wanted(None, span, container=used[3].pk), {"epoch__container": used[3]}),
        (Wanted(tenant, span, meter="net_tx", image="i1"), {"resource__image": "i1"}),
        (Wanted(tenant, span, quality="exact"), {"quality": "exact"}),
    ):
        found = {one.meter: one for one in records.totals(wanted)}
        assert found
        for meter, one in found.items():
            rows = UsageRecord.objects.filter(**asked, **which, meter=meter)  # type: ignore[arg-type]
            assert one.quantity == sum(rows.values_list("quantity", flat=True))
            assert one.records in {None, rows.count()}
    if summed == 2 and span is NOVEMBER:
        with CaptureQueriesContext(connection) as queries:
            records.totals(Wanted(tenant, span))
        assert not [one for one in queries.captured_queries if UsageRecord._meta.db_table in one["sql"]]
