"""Price books, ratings, closing, credits, corrections: each once, each unchanged once closed."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from console.accounts.models import Tenant
from console.core.errors import Invalid, NotAllowed
from console.metering import services
from console.metering.evidence import STREAMS
from console.metering.models import Credit, Invoice, Meter, Period, PriceBook, RatedLine, RatingRun, UsageRecord
from console.metering.rating import Line
from console.metering.selectors.prices import Prices
from console.metering.services import credits, cycle, periods, prices, rating
from console.metering.services.prices import BookDraft, PriceDraft
from console.metering.services.rating import rate_period
from console.metering.units import product, total
from console.workloads.models import Container
from tests.console.test_metering import START, final
from tests.console.test_metering import at as counters
from tests.console.test_metering_ingest import killed, observed

MONTH = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
NEXT = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
LATER = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
CPU = PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.0000123"), ("3600", "0.0000101")), included="100")
MEMORY = PriceDraft("MEM", "memory_limit", "GiB-Seconds", (("0", "0.0000017"),))
OUT = PriceDraft("OUT", "net_tx", "GB", (("0", "0.09"), ("1", "0.05")), included="0.5")


def published(*found: PriceDraft, tenant: Tenant | None = None, valid_from: dt.datetime = MONTH) -> PriceBook:
    return prices.publish(prices.draft(BookDraft("EUR", valid_from, found), tenant).pk)


def period(starts_at: dt.datetime = MONTH) -> Period:
    return Period.objects.get(starts_at=starts_at)


def use(container: Container, epoch: int = 1, cpu: int = 7 * 10**12 + 1, sent: int = 3 * 10**9 + 7) -> None:
    services.ingest_final(final(container, counters(9000, cpu_ns=cpu, net_tx_bytes=sent), epoch=epoch))


def cost(found: RatingRun) -> Decimal:
    return total(*(line.cost for line in found.lines.all()))


@pytest.mark.django_db
def test_a_book_that_is_published_is_never_changed(tenant: Tenant) -> None:
    book = published(CPU)
    assert book.sha256 == hashlib.sha256(prices.canonical(book).encode()).hexdigest()
    again = prices.publish(book.pk)
    assert (again.published_at, again.sha256) == (book.published_at, book.sha256)
    with pytest.raises(NotAllowed):
        prices.discard(book.pk)
    second = prices.draft(BookDraft("EUR", NEXT, (CPU,)))
    assert second.version == 2
    prices.discard(second.pk)
    assert PriceBook.objects.get() == book


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"currency": "EURO"}, "currency"),
        ({"valid_from": dt.datetime(2026, 11, 1, 0, 30, tzinfo=dt.UTC)}, "valid_from"),
        ({"prices": ()}, "prices"),
        ({"prices": (CPU, CPU)}, "prices"),
        ({"prices": (PriceDraft("", "cpu", "Core-Seconds", (("0", "1"),)),)}, "sku"),
        ({"prices": (PriceDraft("A", "gpu", "Core-Seconds", (("0", "1"),)),)}, "meter"),
        ({"prices": (PriceDraft("A", "cpu", "Core-Hours", (("0", "1"),)),)}, "unit"),
        ({"prices": (PriceDraft("A", "cpu", "Core-Seconds", (("1", "1"),)),)}, "tiers"),
        ({"prices": (PriceDraft("A", "cpu", "Core-Seconds", (("0", "1"), ("0", "2"))),)}, "tiers"),
        ({"prices": (PriceDraft("A", "cpu", "Core-Seconds", (("0", "NaN"),)),)}, "tiers"),
        ({"prices": (PriceDraft("A", "cpu", "Core-Seconds", (("0", "-1"),)),)}, "tiers"),
        ({"prices": (PriceDraft("A", "cpu", "Core-Seconds", (("0", "1"),), included="0.0000000001"),)}, "included"),
    ],
)
def test_a_bad_book_is_refused_by_its_field(change: dict[str, object], field: str) -> None:
    plain = {"currency": "EUR", "valid_from": MONTH, "prices": (CPU,)}
    with pytest.raises(Invalid) as caught:
        prices.draft(BookDraft(**{**plain, **change}))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert not PriceBook.objects.exists()


@pytest.mark.django_db
def test_one_currency_and_contracts_within_the_list(tenant: Tenant) -> None:
    published(CPU)
    with pytest.raises(Invalid) as caught:
        prices.publish(prices.draft(BookDraft("USD", NEXT, (CPU,))).pk)
    assert caught.value.field == "currency"
    with pytest.raises(Invalid, match="OUT"):
        published(OUT, tenant=tenant)


@pytest.mark.django_db
def test_a_sku_is_of_one_meter_in_all_books(tenant: Tenant) -> None:
    """Its quantity in a month goes on over a new book: bytes would begin in the tier that nanoseconds had reached."""
    published(CPU)
    with pytest.raises(Invalid, match="CPU is the SKU of another meter") as caught:
        published(replace(OUT, sku="CPU"), valid_from=MONTH + dt.timedelta(days=9))
    assert caught.value.field == "prices"
    published(replace(CPU, sku="CORES"), OUT, valid_from=MONTH + dt.timedelta(days=9))


@pytest.mark.django_db
def test_every_line_is_price_times_quantity_and_rating_again_swaps_a_pointer(container: Container) -> None:
    use(container)
    published(CPU, MEMORY, OUT)
    first = rate_period(period().pk)
    assert first.lines_count == first.lines.count() > 0
    for line in first.lines.all():
        assert product(line.unit_price, line.pricing_quantity) == line.cost
        assert product(line.list_unit_price, line.pricing_quantity) == line.list_cost
    cpu, sent = Decimal("7000.000000001"), Decimal("3.000000007")
    expected = Decimal("3600") * Decimal("0.0000123") + (cpu - 3700) * Decimal("0.0000101")
    expected += Decimal("0.09") + (sent - Decimal("1.5")) * Decimal("0.05") + 9000 * Decimal("0.0000017")
    assert cost(first) == first.total == expected
    second = rate_period(period().pk)
    assert (second.sha256, second.total) == (first.sha256, first.total)
    assert period().run == second
    assert RatedLine.objects.count() == second.lines_count


@pytest.mark.django_db
def test_a_contract_goes_before_the_list_and_the_list_is_still_told(container: Container, tenant: Tenant) -> None:
    use(container)
    published(CPU, MEMORY)
    published(PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.00001"),)), tenant=tenant)
    run = rate_period(period().pk)
    lines = run.lines.filter(sku="CPU")
    assert {line.unit_price for line in lines} == {Decimal("0.00001")}
    assert {line.tier for line in lines} == {"0/i", "0/0", "0/1"}
    assert total(*(line.cost for line in lines)) == Decimal("0.07000000000001")
    assert run.lines.filter(sku="MEM").exists()


@pytest.mark.django_db
def test_prices_change_at_their_hour(container: Container) -> None:
    use(container)
    published(MEMORY)
    middle = START.replace(hour=22, minute=0, second=0)
    published(PriceDraft("MEM", "memory_limit", "GiB-Seconds", (("0", "0.5"),)), valid_from=middle)
    lines = rate_period(period().pk).lines.order_by("window")
    assert {(line.window < middle, line.unit_price) for line in lines} == {
        (True, Decimal("0.0000017")),
        (False, Decimal("0.5")),
    }


@pytest.mark.django_db
def test_a_closed_period_is_frozen_and_its_lines_sum_to_the_invoice(container: Container) -> None:
    use(container)
    published(CPU, MEMORY, OUT)
    with pytest.raises(NotAllowed):
        periods.close(period().pk, NEXT - dt.timedelta(seconds=1))
    credits.give(period().pk, Decimal("0.05"), "an outage", key="k1")
    assert credits.give(period().pk, Decimal("0.05"), "an outage", key="k1") == Credit.objects.get()
    invoice = periods.close(period().pk, NEXT)
    charges = cost(period().run)  # type: ignore[arg-type]
    assert charges - Decimal("0.05") + invoice.adjustment == invoice.payable
    assert abs(invoice.adjustment) <= Decimal("0.005")
    assert invoice.payable == round(invoice.payable, 2)
    assert invoice.sha256 == hashlib.sha256(invoice.manifest.encode()).hexdigest()
    assert periods.close(period().pk, LATER) == invoice
    for refused in (
        lambda: rate_period(period().pk),
        lambda: credits.give(period().pk, Decimal(1), "late", key="k2"),
    ):
        with pytest.raises(NotAllowed):
            refused()
    with pytest.raises(Invalid) as caught:
        published(CPU, valid_from=NEXT - dt.timedelta(hours=1))
    assert caught.value.field == "valid_from"


@pytest.mark.django_db
def test_what_runs_must_be_read_past_the_end(container: Container) -> None:
    services.take([observed(container, 5, cpu_ns=5)])
    published(CPU)
    with pytest.raises(NotAllowed, match="web"):
        periods.close(period().pk, NEXT)
    assert period().state == Period.State.OPEN
    past = (NEXT - START).total_seconds() + 60
    services.take([observed(container, past, cpu_ns=9)])
    assert periods.close(period().pk, NEXT).payable == 0


@pytest.mark.django_db
def test_usage_that_came_too_late_is_a_correction_that_nets_to_the_recomputed_total(container: Container) -> None:
    use(container)
    published(CPU, MEMORY, OUT)
    first = periods.close(period().pk, NEXT)
    manifest, streams = first.manifest, {name: list(source(period())) for name, source in STREAMS.items()}
    use(container, epoch=2, cpu=10**12, sent=10**9)
    assert UsageRecord.objects.filter(billed_in=period(), epoch__number=2).count() == 0
    services.take(
        [observed(container, (NEXT - START).total_seconds() + 5, cpu_ns=5)]
    )  # opens December, in epoch 1: ended
    later = periods.close(period(NEXT).pk, LATER)
    lines = period(NEXT).run.lines.all()  # type: ignore[union-attr]
    assert {line.correction for line in lines} == {True}
    UsageRecord.objects.update(billed_in=period())
    Period.objects.filter(pk=period().pk).update(state=Period.State.OPEN)
    assert first.charges + later.charges == rate_period(period().pk).total
    assert later.previous_sha256 == first.sha256
    assert Invoice.objects.get(pk=first.pk).manifest == manifest
    assert streams["records"]


@pytest.mark.django_db
def test_evidence_of_a_closed_period_stays_the_same(container: Container) -> None:
    services.take([observed(container, n * 60, cpu_ns=n * 10**9) for n in range(200)])
    past = (NEXT - START).total_seconds()
    services.take([observed(container, past - 30, cpu_ns=10**13), observed(container, past + 30, cpu_ns=10**13 + 60)])
    published(CPU, MEMORY)
    periods.close(period().pk, NEXT + dt.timedelta(hours=1))
    before = {name: list(source(period())) for name, source in STREAMS.items()}
    services.ingest_final(final(container, counters(past + 7200, cpu_ns=10**14)))
    use(container, epoch=2)
    rate_period(period(NEXT).pk)
    assert {name: list(source(period())) for name, source in STREAMS.items()} == before
    billed = UsageRecord.objects.filter(meter=Meter.CPU, epoch__number=1).aggregate(sum=Sum("quantity"))["sum"]
    assert billed == 10**14


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", ["close.rated", "close.frozen"])
def test_a_kill_while_closing_is_finished_by_the_next(container: Container, point: str) -> None:
    use(container)
    published(CPU, MEMORY, OUT)
    chosen = period().pk
    killed(lambda: periods.close(chosen, NEXT), point)
    invoice = periods.close(chosen, LATER)
    assert Invoice.objects.get() == invoice
    assert period().state == Period.State.CLOSED
    assert cost(period().run) == invoice.charges  # type: ignore[arg-type]


@pytest.mark.django_db
def test_what_a_crash_left_of_a_rating_goes_also_where_its_month_was_closed(container: Container) -> None:
    use(container)
    published(CPU, MEMORY, OUT)
    invoice = periods.close(period().pk, NEXT)
    for since in (dt.timedelta(hours=1), dt.timedelta(days=2)):
        left = RatingRun.objects.create(period=period(), currency="EUR")
        RatingRun.objects.filter(pk=left.pk).update(created_at=timezone.now() - since)
        line = invoice.period.run.lines.first()  # type: ignore[union-attr]
        line.pk, line.run = None, left
        line.save(force_insert=True)
    cycle.turn(NEXT)
    young = RatingRun.objects.get(sha256="")
    assert young.lines.count() == 1, "somebody may be writing it"
    assert RatedLine.objects.count() == period().run.lines_count + 1  # type: ignore[union-attr]


@pytest.mark.django_db(transaction=True)
def test_two_that_close_at_once_make_one_invoice(container: Container) -> None:
    use(container)
    published(CPU, MEMORY, OUT)
    chosen = period().pk

    def one(_number: int) -> Invoice:
        try:
            return periods.close(chosen, NEXT)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(one, range(4)))
    assert {invoice.pk for invoice in made} == {Invoice.objects.get().pk}
    assert period().run.lines.count() == period().run.lines_count  # type: ignore[union-attr]
    assert RatedLine.objects.count() == period().run.lines_count  # type: ignore[union-attr]


@pytest.mark.django_db(transaction=True)
def test_a_rating_that_was_begun_before_the_closing_counts_no_more(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule's has read the month's hours, more usage comes, and somebody closes the month: then the schedule's is done."""
    use(container)
    published(CPU)
    chosen, told = period().pk, rating.corrections
    read, rated = threading.Event(), threading.Event()

    def late(found: Period, known: Prices) -> Iterator[Line]:
        if threading.current_thread() is not threading.main_thread():
            read.set()
            assert rated.wait(30)
        return told(found, known)

    def schedule() -> None:
        try:
            with pytest.raises(NotAllowed):
                rate_period(chosen)
        finally:
            connection.close()

    monkeypatch.setattr(rating, "corrections", late)
    with ThreadPoolExecutor(1) as pool:
        schedules = pool.submit(schedule)
        assert read.wait(30)
        use(container, epoch=2)

        def reached(point: str) -> None:
            if point == "close.rated":
                rated.set()
                schedules.result(30)

        monkeypatch.setattr(periods, "failpoint", reached)
        invoice = periods.close(chosen, NEXT)
    found = period().run
    assert found is not None
    assert invoice.charges == found.total == cost(found)
    assert sum(line.quantity for line in found.lines.all()) == 2 * (7 * 10**12 + 1)
    assert RatedLine.objects.count() == found.lines_count


@pytest.mark.django_db
def test_invoices_are_chained_and_made_in_order(container: Container) -> None:
    use(container)
    services.ingest_final(final(container, counters((NEXT - START).total_seconds() + 60, cpu_ns=1), epoch=2))
    published(CPU)
    with pytest.raises(NotAllowed):
        periods.close(period(NEXT).pk, LATER)
    made = periods.close_due(LATER)
    assert [invoice.period.starts_at for invoice in made] == [MONTH, NEXT]
    for before, after in itertools.pairwise(made):
        assert after.previous_sha256 == before.sha256
    assert periods.close_due(LATER) == []
