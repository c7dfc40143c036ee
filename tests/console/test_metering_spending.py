"""Cost so far, forecast, a container's cost and a launch's price: by the price book, to the digit, between two ratings too."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.test import Client

from console.accounts.models import Tenant, User
from console.metering import services
from console.metering.models import Meter
from console.metering.selectors.spending import of_container, price, spending
from console.metering.services import credits, sums
from console.metering.services.prices import PriceDraft
from console.metering.services.rating import rate_period
from console.workloads.models import Container
from tests.console.test_metering import START
from tests.console.test_metering_bills import CPU, MEMORY, MONTH, NEXT, OUT, period, published
from tests.console.test_metering_ingest import observed

pytestmark = pytest.mark.django_db
S = 10**9
FLAT = PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.01"),))
PORTS = PriceDraft("PORT", "published_port", "Port-Seconds", (("0", "0.001"),))


@pytest.fixture
def container(tenant: Tenant) -> Container:
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500, state="running"
    )


def after(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


def test_without_prices_nothing_is_said(tenant: Tenant, container: Container) -> None:
    assert spending(tenant, START) is None
    assert of_container(container, START) is None
    assert price(tenant, START, memory_bytes=1, cpu_millis=1, ports=0) is None


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("rated_at", [None, 100, 7000])
def test_the_cost_so_far_is_what_a_rating_of_now_would_say(
    tenant: Tenant, container: Container, rated_at: int | None, summed: bool
) -> None:
    """Over a tier and out of the included amount, whenever the last rating was."""
    published(CPU, MEMORY, OUT)
    for second in (5, 100, 3700, 7000, 7300):
        services.take([observed(container, second, cpu_ns=second * S, net_tx_bytes=second * 10**6)])
        if second == rated_at:
            rate_period(period().pk)
    if summed:
        sums.refresh()
    found = spending(tenant, after(7300))
    assert found is not None
    services.take([observed(container, 7300.5, cpu_ns=7300 * S, net_tx_bytes=7300 * 10**6)])
    services.take([observed(container, 11_000, cpu_ns=7300 * S, net_tx_bytes=7300 * 10**6)])  # stores what is before it
    run = rate_period(period().pk)
    usage = run.lines.exclude(meter="memory_limit")
    assert sum(line.cost for line in usage) == found.so_far - Decimal("0.0000017") * 7300
    of_one = of_container(container, after(7300))
    assert of_one is not None
    assert of_one.so_far >= found.so_far


@pytest.mark.parametrize("rated", [False, True])
@pytest.mark.parametrize("before", [(), (FLAT,)], ids=["the first book", "a book before"])
def test_what_was_used_before_it_had_a_price_costs_nothing(
    tenant: Tenant, container: Container, before: tuple[PriceDraft, ...], rated: bool
) -> None:
    """As a home that begins to charge for memory, or for anything, in the midst of a month."""
    if before:
        published(*before)
    services.take([observed(container, second, cpu_ns=second * S) for second in (5, 100, 3700, 7000, 7300)])
    services.hold_ports(container, 3, START)
    services.charge_allocations(after(7300))
    published(*before, MEMORY, PORTS, valid_from=START.replace(hour=22, minute=0, second=0))
    if rated:
        rate_period(period().pk)
    sums.refresh()
    found, of_one = spending(tenant, after(7300)), of_container(container, after(7300))
    assert found is not None
    assert of_one is not None
    seconds = Decimal(7300 - 3610)  # since 22:00; of ports to the last full hour
    cost = seconds * Decimal("0.0000017") + 3 * 3600 * Decimal("0.001") + (73 if before else 0)
    assert found.so_far == of_one.so_far == cost


def test_credits_lower_it(tenant: Tenant, container: Container) -> None:
    published(FLAT)
    services.take([observed(container, 5, cpu_ns=100 * S)])
    rate_period(period().pk)
    credits.give(period().pk, Decimal("0.25"), "an outage", key="k")
    found = spending(tenant, after(10))
    assert found is not None
    assert found.so_far == Decimal("0.75")


def test_the_forecast_goes_on_as_the_last_day_went(tenant: Tenant, container: Container) -> None:
    published(FLAT)
    now = after(2 * 86_400 + 10)
    services.take([observed(container, 10, cpu_ns=5000 * S)])
    for hour in range(49):
        services.take([observed(container, 10 + 3600 * hour, cpu_ns=5000 * S + 360 * S * hour)])
    found = spending(tenant, now)
    assert found is not None
    used = 5000 + 360 * 48
    assert found.so_far == Decimal("0.01") * used
    left = (NEXT - now).total_seconds()
    expected = float(found.so_far) + left * 0.1 * 0.01  # a tenth of a vCPU; what was used long ago says nothing
    assert float(found.forecast) == pytest.approx(expected, rel=0.05)


def test_the_forecast_knows_the_tiers(tenant: Tenant, container: Container) -> None:
    """What is included is used up within the month, and then it costs."""
    published(PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "1"),), included="10000"))
    services.take([observed(container, 5 + 3600 * hour, cpu_ns=360 * S * hour) for hour in range(6)])
    now = after(5 + 3600 * 5)
    found = spending(tenant, now)
    assert found is not None
    assert found.so_far == 0
    ahead = 1800 + 0.1 * (NEXT - now).total_seconds() - 10_000
    assert float(found.forecast) == pytest.approx(ahead, rel=0.05)


def test_a_container_costs_what_it_used_and_not_what_others_did(tenant: Tenant, container: Container) -> None:
    published(FLAT)
    other = Container.objects.create(
        tenant=tenant, node="n", name="other", image_reference="x", memory_bytes=1 << 30, cpu_millis=100
    )
    services.take([observed(container, 5, cpu_ns=S), observed(other, 5, cpu_ns=70 * S)])
    rate_period(period().pk)
    services.take([observed(container, 9, cpu_ns=3 * S)])
    found = of_container(container, after(9))
    assert found is not None
    assert found.so_far == found.altogether == Decimal("0.03")
    assert found.hourly == Decimal("0.01") * Decimal("1.5") * 3600
    december = of_container(container, NEXT + dt.timedelta(hours=1))
    assert december is not None
    assert (december.so_far, december.altogether) == (0, Decimal("0.01")), "the rest is rated there soon"


def test_the_price_of_a_launch_is_its_reservation_by_the_tenants_contract(tenant: Tenant) -> None:
    published(FLAT, MEMORY, PORTS, OUT)
    published(PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.02"),)), tenant=tenant)
    found = price(tenant, MONTH, memory_bytes=1 << 30, cpu_millis=500, ports=2)
    assert found is not None
    second = Decimal("0.02") / 2 + Decimal("0.0000017") + 2 * Decimal("0.001")
    assert (found.hour, found.month) == (second * 3600, second * 3600 * 730)
    assert found.on_top == (Meter.NET_TX,)
    other = price(Tenant.objects.create(name="O", slug="o"), MONTH, memory_bytes=1 << 30, cpu_millis=500, ports=2)
    assert other is not None
    assert other.hour < found.hour


def test_the_price_counts_on_from_where_the_month_is(tenant: Tenant, container: Container) -> None:
    published(PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "1"), ("1000", "0.5")), included="100"))
    first = price(tenant, START, memory_bytes=1, cpu_millis=1000, ports=0)
    services.take([observed(container, 5, cpu_ns=5000 * S)])
    rate_period(period().pk)
    later = price(tenant, START, memory_bytes=1, cpu_millis=1000, ports=0)
    assert first is not None
    assert later is not None
    assert first.hour == 1000 + Decimal("0.5") * 2500
    assert later.hour == Decimal("0.5") * 3600


def test_the_form_shows_the_price_before_and_while_it_is_filled(tenant: Tenant, member: User) -> None:
    published(
        PriceDraft("CPU", "cpu_limit", "Core-Seconds", (("0", "0.01"),)), valid_from=MONTH - dt.timedelta(days=900)
    )
    client = Client()
    client.force_login(member)
    assert "36.00 EUR" in client.get("/catalog/launch/?image=x").content.decode()
    typed = {"image": "x", "memory": "64", "cpu": "0.25", "name": "not valid at all!"}
    assert "9.00 EUR" in client.post("/catalog/launch/price/", typed).content.decode()
    assert "6,570.00 EUR" in client.post("/catalog/launch/price/", typed).content.decode()
    for nonsense in ("", "much", "-1", "1e300", "nan"):
        answer = client.post("/catalog/launch/price/", {**typed, "cpu": nonsense})
        assert answer.status_code == 200
        assert "as numbers" in answer.content.decode()


def test_home_and_the_containers_page_ask_for_it(
    tenant: Tenant, container: Container, member: User, outsider: User
) -> None:
    client = Client()
    client.force_login(member)
    assert 'hx-get="/usage/so-far/"' in client.get("/").content.decode()
    assert f'hx-get="/containers/{container.pk}/cost/"' in client.get(f"/containers/{container.pk}/").content.decode()
    assert client.get(f"/containers/{container.pk}/cost/").content == b""
    published(FLAT, valid_from=MONTH - dt.timedelta(days=900))
    services.take([observed(container, 5, cpu_ns=100 * S)])
    rate_period(period().pk)
    page = client.get(f"/containers/{container.pk}/cost/").content.decode()
    assert "1.00 EUR" in page
    assert f"container={container.pk}" in page
    assert "EUR" in client.get("/usage/so-far/").content.decode()
    client.force_login(outsider)
    assert client.get(f"/containers/{container.pk}/cost/").status_code == 404
    assert "1.00 EUR" not in client.get("/usage/so-far/").content.decode()
