"""A period's rating: its hours priced, line by line, in a new run that then becomes the one that counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from console.core.errors import NotAllowed
from console.metering.models import Period, RatedLine, RatingRun
from console.metering.models.decimals import plain
from console.metering.rating import Line, rate
from console.metering.rows import insert
from console.metering.selectors.hours import used
from console.metering.selectors.prices import Prices
from console.metering.services.corrections import corrections
from console.metering.units import total

AT_ONCE = 2000
FIELDS = (
    "run_id", "number", "resource_id", "window", "meter", "sku", "book_id", "list_book_id", "tier", "unit", "quantity",
    "pricing_quantity", "list_unit_price", "unit_price", "list_cost", "cost", "quality", "correction",
)  # fmt: skip


@transaction.atomic
def rate_period(period_id: int) -> RatingRun:
    """Raises NotAllowed for a closed period: what it cost is on its invoice."""
    period = Period.objects.select_for_update().get(pk=period_id)
    if period.state == Period.State.CLOSED:
        raise NotAllowed(_("This period is closed. What comes later is a correction in the next one."))
    prices = Prices(period.tenant_id)
    before = period.run
    run = RatingRun.objects.create(period=period, currency=prices.currency)
    digest, cost, count = hashlib.sha256(), Decimal(0), 0
    for batch in _batches(_lines(period, prices)):
        insert(RatedLine, FIELDS, [_row(run, count + number, line) for number, line in enumerate(batch, 1)])
        for line in batch:
            digest.update(text(line).encode() + b"\n")
            cost = total(cost, line.cost)
        count += len(batch)
    run.lines_count, run.total, run.sha256 = count, cost, digest.hexdigest()
    run.save(update_fields=["lines_count", "total", "sha256"])
    period.run = run
    period.save(update_fields=["run"])
    if before is not None:
        before.lines.all().delete()
    return run


def _lines(period: Period, prices: Prices) -> Iterator[Line]:
    yield from rate(used(period), prices.offer)
    yield from corrections(period, prices)


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


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, AT_ONCE)):
        yield batch
