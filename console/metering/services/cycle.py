"""What the schedule does for bills: charge what is held, close what can be closed, rate what is open."""

from __future__ import annotations

import datetime as dt
import logging

from django.db.models import Q

from console.core.errors import NotAllowed
from console.metering.models import Period, PriceBook
from console.metering.services import allocations, budgets, costs, periods, sums
from console.metering.services.rating import carry_on, forget_cut_short

log = logging.getLogger(__name__)
RATE_EVERY = dt.timedelta(hours=1)
READ_WITHIN = dt.timedelta(minutes=2)
"""Of an hour's end, at which prices change, all that was used before is read."""


def turn(as_of: dt.datetime) -> None:
    """Each part may come again; the sums are the same.  One month that cannot be closed or rated is told in the log and keeps no other waiting."""
    allocations.charge(as_of)
    sums.refresh()
    try:
        forget_cut_short()
    except Exception:
        log.exception("what a crash left of ratings is still there; the next turn tries again")
    if not PriceBook.objects.filter(published_at__isnull=False).exists():
        return
    periods.close_due(as_of)
    costs.catch_up()
    for period in Period.objects.filter(_stale(as_of), state=Period.State.OPEN).order_by("starts_at", "tenant"):
        try:
            carry_on(period.pk, as_of)
        except NotAllowed:
            log.info("%s is being closed by somebody", period)
        except Exception:
            log.exception("%s cannot be rated; the others are", period)
    budgets.check(as_of)


def _stale(as_of: dt.datetime) -> Q:
    """Not rated for an hour, or not since other prices hold: what was used since the last rating is told by today's, budgets among it."""
    found = Q(run=None) | Q(run__created_at__lt=as_of - RATE_EVERY)
    held = PriceBook.objects.filter(published_at__isnull=False, valid_from__lte=as_of)
    for book in held:
        since = max(book.valid_from + READ_WITHIN, book.published_at or book.valid_from)
        if since > as_of - RATE_EVERY:
            older = Q(run__created_at__lt=since)
            found |= older if book.tenant_id is None else older & Q(tenant=book.tenant_id)
    return found
