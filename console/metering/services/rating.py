"""A period's rating: its hours priced, line by line, in a new run that then becomes the one that counts.

An open month is rated each hour, so the one that counts is carried on where it can be: the hours that it has settled stay.  A month is closed
by a rating of the whole.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from console.core.errors import NotAllowed
from console.metering.failpoints import failpoint
from console.metering.models import Period, RatedLine, RatingRun
from console.metering.models.decimals import plain
from console.metering.rating import Line, rate
from console.metering.rows import insert
from console.metering.selectors.hours import records_before, used_hours
from console.metering.selectors.prices import Prices
from console.metering.services.corrections import corrections, origin
from console.metering.services.costs import CostDays, line, move
from console.metering.services.tally import RULES, Settled, Tally, settled
from console.metering.splitting import hour_of

AT_ONCE = 2000
CUT_SHORT_AFTER = dt.timedelta(days=1)
ON_ITS_WAY = dt.timedelta(minutes=15)
"""So long after an hour its last records may come; where one comes later still, the whole month is rated anew."""
FIELDS = (
    "run_id", "number", "resource_id", "window", "meter", "sku", "book_id", "list_book_id", "tier", "unit", "quantity",
    "pricing_quantity", "list_unit_price", "unit_price", "list_cost", "cost", "quality", "correction",
)  # fmt: skip
RESULTS = ("lines_count", "total", "sha256", "numbers", "reached", "summary", "settled")
"""Of a run, once it is written."""


class Last(NamedTuple):
    """The corrections, which are behind all else."""

    origin: str
    """See ``corrections.origin``; asked for before any line is: of what came in between they may have too much, and never too little."""
    lines: Iterator[Line]


def rate_period(period_id: int, as_of: dt.datetime | None = None) -> RatingRun:
    """The whole of it.  ``as_of``: now, unless told.  Raises NotAllowed for a closed period: what it cost is on its invoice.  Likewise where
    its closing begins meanwhile: usage may have come since its hours were read here, which the closing's own rating knows.

    Written an hour of usage at a time, so that nobody waits for a whole month; it counts once it is whole.
    """
    period = _not_closed(Period.objects.get(pk=period_id))
    prices = Prices(period.tenant_id)
    run = RatingRun.objects.create(period=period, currency=prices.currency)
    last = Last(origin(period), corrections(period, prices))
    _write(run, prices, CostDays(run, period.tenant_id), Tally(), _settles(as_of), last)
    try:
        before = _swap(period, run)
    except NotAllowed:
        run.delete()
        raise
    if before is not None:
        _empty(before)
    return run


def carry_on(period_id: int, as_of: dt.datetime | None = None) -> RatingRun:
    """As :func:`rate_period`, to the same lines, sums and hash.  Where nothing has come to the hours that the rating which counts has settled, and
    no price, these stay: what is behind them is rated, and takes the place of what was there, at once.  Corrections are behind them too, and are
    taken over where nothing late has come, for an earlier month would be rated anew.  Where somebody rated meanwhile, who may have read less,
    it goes on from there.
    """
    period = _not_closed(Period.objects.select_related("run").get(pk=period_id))
    prices = Prices(period.tenant_id)
    before = period.run
    place = None if before is None else _place(period, before, prices)
    if before is None or place is None:
        return rate_period(period_id, as_of)
    run = RatingRun.objects.create(period=period, currency=prices.currency)
    gone = CostDays(run, period.tenant_id, place.cost, taken_away=True)
    for number, lines in _behind(before, place, correction=False):
        gone.add(lines, number)
    gone.finish()
    days = CostDays(run, period.tenant_id, place.cost)
    late = origin(period)
    same = late and late == place.late
    kept = chain.from_iterable(lines for _, lines in _behind(before, place, correction=True))
    last = Last(late, kept if same else corrections(period, prices))
    _write(run, prices, days, Tally.from_settled(place), _settles(as_of), last, place.hour)
    failpoint("rating.written")
    try:
        joined = _join(period, before, run, place)
    except NotAllowed:
        run.delete()
        raise
    return joined or carry_on(period_id, as_of)


def _settles(as_of: dt.datetime | None) -> dt.datetime:
    """The hour from which on more is expected."""
    return hour_of((as_of or timezone.now()) - ON_ITS_WAY)


def _place(period: Period, run: RatingRun, prices: Prices) -> Settled | None:
    """From where on the run can be carried on: what lies before would be rated to the same.  A month that is being closed is rated whole."""
    found = settled(run.settled)
    if (
        period.state != Period.State.OPEN
        or found is None
        or found.rules != RULES
        or list(found.books) != _books(prices)
    ):
        return None
    return found if found.records == records_before(period, found.hour) else None


def _books(prices: Prices) -> list[int]:
    return [book.pk for book in prices.books()]


def _behind(run: RatingRun, place: Settled, *, correction: bool) -> Iterator[tuple[int, list[Line]]]:
    """The period's own lines behind what is settled, or the corrections, in parts, with the number of the first."""
    number, found = place.lines, run.lines.filter(correction=correction)
    while stored := list(found.filter(number__gt=number).order_by("number")[:AT_ONCE]):
        yield stored[0].number, [line(one) for one in stored]
        number = stored[-1].number


def _write(
    run: RatingRun, prices: Prices, days: CostDays, tally: Tally, settles: dt.datetime, last: Last,
    since: dt.datetime | None = None,
) -> None:  # fmt: skip
    """The hours from ``since`` on and the corrections, and into ``run`` what they come to.  ``settles``: the first hour that is not settled."""
    period, place = run.period, None
    since = since or period.starts_at
    settles = max(settles, since)
    for hour in used_hours(period, since):
        if place is None and hour[0].window >= settles:
            place = tally.settle(settles, _books(prices), last.origin)
        tally.read(hour)
        _store(run, days, tally, rate(hour, prices.offer, tally.reached))
    place = place or tally.settle(settles, _books(prices), last.origin)
    _store(run, days, tally, last.lines)
    days.finish()
    run.lines_count, run.total, run.sha256 = tally.lines, tally.cost, tally.sha256
    run.summary, run.numbers, run.settled = tally.summary.rows(), days.numbers, place.told()
    run.reached = {sku: str(quantity) for sku, quantity in tally.reached.items()}


def _store(run: RatingRun, days: CostDays, tally: Tally, lines: Iterator[Line]) -> None:
    for first, part in tally.link(_parts(lines)):
        with transaction.atomic():
            insert(RatedLine, FIELDS, [_row(run, number, one) for number, one in enumerate(part, first)])
            days.add(part, first)


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
    run.save(update_fields=RESULTS)
    period.run = run
    period.save(update_fields=["run"])
    return before


@transaction.atomic
def _join(begun: Period, before: RatingRun, run: RatingRun, place: Settled) -> RatingRun | None:
    """What ``run`` has takes the place of what ``before`` has behind ``place``; returns that one.  None where somebody rated meanwhile, so that
    it counts no more or is another.
    """
    period = _not_closed(Period.objects.select_for_update().get(pk=begun.pk), was=begun.state)
    found = period.run
    assert found is not None, "one that was rated stays so"
    if (found.pk, found.sha256, found.settled) != (before.pk, before.sha256, before.settled):
        run.delete()
        return None
    found.lines.filter(number__gt=place.lines).delete()
    run.lines.update(run=found)
    _forget_corrections(found, period)
    move(run, found, period.tenant_id)
    numbers = {day: span for day, span in found.numbers.items() if span[0] <= place.lines}
    for day, (first, last) in run.numbers.items():
        numbers[day] = [numbers.get(day, (first, last))[0], last]
    for name in (*RESULTS, "created_at"):
        setattr(found, name, getattr(run, name))
    found.numbers = numbers
    found.save(update_fields=(*RESULTS, "created_at"))
    run.delete()
    return found


def _forget_corrections(run: RatingRun, period: Period) -> None:
    """Their sums, which lie before the period.  One may be none any more, as what came since led to a tier of the same price."""
    run.days.filter(day__lt=period.starts_at).delete()
    run.months.filter(month__lt=period.starts_at).delete()


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
