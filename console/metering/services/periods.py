"""Closing: a period that has ended is rated for good, invoiced once and frozen."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from decimal import Decimal

from django.db import transaction
from django.utils.translation import gettext as _

from console.accounts.models import User
from console.accounts.services import audit
from console.core.errors import NotAllowed
from console.metering.currencies import rounded
from console.metering.evidence import manifest
from console.metering.failpoints import failpoint
from console.metering.models import Invoice, Period
from console.metering.selectors.bills import Bill
from console.metering.selectors.unread import uncharged, unread
from console.metering.services import allocations
from console.metering.services.rating import rate_period
from console.metering.units import difference, total

log = logging.getLogger(__name__)


def close(period_id: int, as_of: dt.datetime, *, actor: User | None = None) -> Invoice:
    """Closed already: its invoice.  ``actor``: who closes it by hand, for the audit log.  Raises NotAllowed, with the reason, where it cannot be closed yet.

    A crash in between leaves it ``closing``, and the next call finishes it; the sum is the same, for nothing is added to it.
    """
    allocations.charge(as_of)
    found = _claim(period_id, as_of)
    if found is not None:
        return found
    try:
        rate_period(period_id)
    except NotAllowed:
        return Invoice.objects.get(period=period_id)  # somebody else closed it in this moment
    failpoint("close.rated")
    invoice = _freeze(_invoice(period_id, as_of), actor)
    failpoint("close.frozen")
    return invoice


def close_due(as_of: dt.datetime) -> list[Invoice]:
    """Every period that can be closed, in order; one that cannot yet says why in the log and waits."""
    made = []
    due = Period.objects.exclude(state=Period.State.CLOSED).filter(ends_at__lte=as_of)
    for period in due.order_by("starts_at", "tenant"):
        try:
            made.append(close(period.pk, as_of))
        except NotAllowed as refused:
            log.warning("%s stays open: %s", period, refused.message)
        except Exception:
            log.exception("%s cannot be closed; the others are", period)
    return made


@transaction.atomic
def _claim(period_id: int, as_of: dt.datetime) -> Invoice | None:
    period = Period.objects.select_for_update().get(pk=period_id)
    if period.state == Period.State.CLOSED:
        return period.invoice
    if as_of < period.ends_at:
        raise NotAllowed(_("This period has not ended yet."))
    if Period.objects.filter(tenant=period.tenant_id, starts_at__lt=period.starts_at).exclude(
        state=Period.State.CLOSED
    ):
        raise NotAllowed(_("An earlier period is still open. Periods are closed in order."))
    _refuse_unread(period)
    period.state = Period.State.CLOSING
    period.save(update_fields=["state"])
    return None


def _refuse_unread(period: Period) -> None:
    """Everything that ran in it has been read past its end."""
    waiting = unread(period.tenant_id, period.ends_at)
    if waiting:
        names = ", ".join(waiting[:5])
        raise NotAllowed(_("These containers have not been read since it ended: %(names)s.") % {"names": names})
    if uncharged(period.tenant_id, period.ends_at):
        raise NotAllowed(_("Something that is held over time has not been charged up to its end yet."))


def _invoice(period_id: int, as_of: dt.datetime) -> Invoice:
    """Not stored yet.  What it is made from is fixed: to a period that is closing nothing is added."""
    period = Period.objects.select_related("run", "tenant").get(pk=period_id)
    assert period.run is not None
    currency = period.run.currency
    charges, credits_sum = period.run.total, total(*(credit.amount for credit in period.credits.all()))
    due = difference(charges, credits_sum)
    payable = rounded(due, currency) if currency else Decimal(0)
    before = Invoice.objects.filter(tenant=period.tenant_id).order_by("-period__starts_at").first()
    found = Bill(
        tenant_id=period.tenant_id,
        tenant_name=period.tenant.name,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        state=Period.State.CLOSED,
        number=f"{period.starts_at:%Y-%m}-{period.tenant_id}",
        currency=currency,
        charges=charges,
        credits=credits_sum,
        adjustment=difference(payable, due),
        payable=payable,
        rated_at=None,
    )
    previous = "" if before is None else before.sha256
    text = manifest(period, found, as_of, previous)
    return Invoice(
        period=period,
        tenant=period.tenant,
        number=found.number,
        currency=currency,
        charges=charges,
        credits=credits_sum,
        adjustment=found.adjustment,
        payable=payable,
        issued_at=as_of,
        manifest=text,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        previous_sha256=previous,
    )


@transaction.atomic
def _freeze(invoice: Invoice, actor: User | None) -> Invoice:
    period = Period.objects.select_for_update().get(pk=invoice.period_id)
    if period.state == Period.State.CLOSED:
        return period.invoice
    invoice.save(force_insert=True)
    period.state, period.closed_at = Period.State.CLOSED, invoice.issued_at
    period.save(update_fields=["state", "closed_at"])
    if actor is not None:
        audit("period.close", actor=actor, tenant=invoice.tenant, target=invoice.number, sha256=invoice.sha256)
    return invoice
