"""A period's rating: its hours priced, line by line, in a new run that then becomes the one that counts."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from console.core.errors import NotAllowed
from console.metering.models import Period, RatedLine, RatingRun
from console.metering.models.decimals import plain
from console.metering.rating import Line, rate
from console.metering.rows import insert
from console.metering.selectors.hours import used_hours
from console.metering.selectors.prices import Prices
from console.metering.services.corrections import corrections
from console.metering.services.costs import CostDays
from console.metering.services.summary import Summary
from console.metering.units import total

AT_ONCE = 2000
CUT_SHORT_AFTER = dt.timedelta(days=1)
FIELDS = (
    "run_id", "number", "resource_id", "window", "meter", "sku", "book_id", "list_book_id", "tier", "unit", "quantity",
    "pricing_quantity", "list_unit_price", "unit_price", "list_cost", "cost", "quality", "correction",
)  # fmt: skip


def rate_period(period_id: int) -> RatingRun:
    """Raises NotAllowed for a closed period: what it cost is on its invoice.  Likewise where its closing begins meanwhile: usage may have
    come since its hours were read here, which the closing's own rating knows.

    Written an hour of usage at a time, so that nobody waits for a whole month; it counts once it is whole.
    """
    period = _not_closed(Period.objects.get(pk=period_id))
    prices = Prices(period.tenant_id)
    run = RatingRun.objects.create(period=period, currency=prices.currency)
    digest, cost, count = hashlib.sha256(), Decimal(0), 0
    days, summary = CostDays(run, period.tenant_id), Summary()
    reached: dict[str, int] = {}
    for batch in _batches(period, prices, reached):
        with transaction.atomic():
            insert(RatedLine, FIELDS, [_row(run, count + number, line) for number, line in enumerate(batch, 1)])
            days.add(batch, count + 1)
        summary.add(batch)
        for line in batch:
            digest.update(text(line).encode() + b"\n")
            cost = total(cost, line.cost)
        count += len(batch)
    days.finish()
    run.lines_count, run.total, run.sha256 = count, cost, digest.hexdigest()
    run.summary = summary.rows()
    run.numbers, run.reached = days.numbers, {sku: str(quantity) for sku, quantity in reached.items()}
    try:
        before = _swap(period, run)
    except NotAllowed:
        run.delete()
        raise
    if before is not None:
        _empty(before)
    return run


def _not_closed(period: Period, *, was: str | None = None) -> Period:
    """``was``: the state that it must still have."""
    if period.state == Period.State.CLOSED or was not in {None, period.state}:
        raise NotAllowed(_("This period is closed. What comes later is a correction in the next one."))
    return period


@transaction.atomic
def _swap(begun: Period, run: RatingRun) -> RatingRun | None:
    """The run counts from here on; returns the one that did.  ``begun``: the period as it was when the rating began."""
    period = _not_closed(Period.objects.select_for_update().get(pk=begun.pk), was=begun.state)
    before = period.run
    run.save(update_fields=["lines_count", "total", "sha256", "numbers", "reached", "summary"])
    period.run = run
    period.save(update_fields=["run"])
    return before


def _empty(run: RatingRun) -> None:
    """The run stays, with its sum and its hash; its lines and their sums go."""
    run.days.all().delete()
    run.months.all().delete()
    for first in range(0, run.lines_count, AT_ONCE * 10):
        run.lines.filter(number__gt=first, number__lte=first + AT_ONCE * 10).delete()


def forget_cut_short() -> None:
    """What a crash left of ratings that nobody can still be writing, also of months that were closed since."""
    for run in RatingRun.objects.filter(sha256="", created_at__lt=timezone.now() - CUT_SHORT_AFTER):
        run.lines.all().delete()
        run.delete()


def _batches(period: Period, prices: Prices, reached: dict[str, int]) -> Iterator[list[Line]]:
    for hour in used_hours(period):
        yield from _parts(rate(hour, prices.offer, reached))
    yield from _parts(corrections(period, prices))


def _parts(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, AT_ONCE)):
        yield batch


def _row(run: RatingRun, number: int, line: Line) -> tuple[Any, ...]:
    prices = [None if price is None else plain(price) for price in (line.list_unit_price, line.unit_price)]
    return (
        run.pk, number, line.resource, line.window, line.meter, line.sku, line.book, line.list_book, line.tier, line.unit,
        str(line.quantity), plain(line.pricing_quantity), *prices, plain(line.list_cost), plain(line.cost), line.quality,
        line.correction,
    )  # fmt: skip


def text(line: Line) -> str:
    """What the run's hash is of: the same in whichever database it was rated."""
    prices = ["" if price is None else plain(price) for price in (line.list_unit_price, line.unit_price)]
    costs = [plain(cost) for cost in (line.pricing_quantity, line.list_cost, line.cost)]
    parts = [
        f"{line.window:%Y-%m-%dT%HZ}",
        line.resource,
        line.meter,
        line.sku,
        line.tier,
        line.unit,
        str(line.quantity),
    ]
    return "|".join([*parts, *prices, *costs, line.quality, "correction" if line.correction else ""])
