"""Credits: what lowers a tenant's next invoice, said once and never changed."""

from __future__ import annotations

from decimal import Decimal

from django.db import transaction
from django.utils.translation import gettext as _

from console.accounts.models import Tenant, User
from console.accounts.services import audit
from console.core.errors import Invalid, NotAllowed
from console.metering.currencies import DIGITS, rounded
from console.metering.models import Credit, Period
from console.metering.selectors.prices import Prices

MOST = 10**12
LONGEST_REASON = 200


@transaction.atomic
def give(period_id: int, amount: Decimal, reason: str, *, key: str, actor: User | None = None) -> Credit:
    """``key`` given already: that credit as it is, and nothing is said in the audit log.  Raises Invalid, and NotAllowed for a period that is no longer open."""
    reason = reason.strip()
    period = Period.objects.select_for_update().get(pk=period_id)
    known = Credit.objects.filter(tenant=period.tenant_id, key=key).first()
    if known is not None:
        return known
    if period.state != Period.State.OPEN:
        raise NotAllowed(_("This period is closed: give the credit in the next one."))
    currency = Prices(period.tenant_id).currency
    if currency not in DIGITS:
        raise Invalid("amount", _("Publish a price book first: without one there is no currency."))
    if not amount.is_finite() or not 0 < amount < MOST or amount != rounded(amount, currency):
        raise Invalid(
            "amount",
            _("Write an amount of %(currency)s above 0 and below a trillion, with %(digits)d decimals at most.")
            % {"currency": currency, "digits": DIGITS[currency]},
        )
    if not reason or not reason.isprintable():
        raise Invalid("reason", _("Say what the credit is for: it is on the invoice."))
    if len(reason) > LONGEST_REASON:
        raise Invalid("reason", _("This is too long: %(most)d characters at most.") % {"most": LONGEST_REASON})
    tenant = Tenant.objects.get(pk=period.tenant_id)
    audit("period.credit", actor=actor, tenant=tenant, target=f"{period.starts_at:%Y-%m}", amount=str(amount))
    return Credit.objects.create(tenant=tenant, period=period, key=key, amount=amount, reason=reason, actor=actor)
