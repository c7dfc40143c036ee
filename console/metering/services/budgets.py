"""Budgets: set by owners, checked by the schedule, told once a threshold, month and amount."""

from __future__ import annotations

import datetime as dt
import json
import logging
import secrets as random
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from console.accounts.models import Role, Tenant, User
from console.accounts.services import audit, require
from console.core import secrets
from console.core.errors import Full, Invalid
from console.core.live import announce
from console.metering.currencies import DIGITS, rounded
from console.metering.failpoints import failpoint
from console.metering.models import Budget, BudgetAlert, WebhookDelivery
from console.metering.models.decimals import plain
from console.metering.months import month_of
from console.metering.selectors.prices import Prices
from console.metering.selectors.spending import Spending, spending
from console.metering.webhooks import MOST_URL, literal_is_inside
from runtime.home import Home

log = logging.getLogger(__name__)
MOST_THRESHOLDS, MOST_PERCENT = 10, 1000


@dataclass(frozen=True, slots=True)
class Wish:
    """As a person wrote it.  ``thresholds`` such as ``50, 80, 100``."""

    amount: str
    actual: str
    forecast: str
    stop_launches: bool
    webhook_url: str = ""
    webhook_inside: bool = False
    """Only an admin's counts; an owner's new address loses it."""


@transaction.atomic
def save(*, tenant: Tenant, actor: User, wish: Wish) -> str:
    """An empty amount ends the budget.  Returns the secret that a new webhook is signed with, which is shown once, or nothing.

    Raises Missing, NotAllowed, Invalid on the field that is wrong; then nothing was written.
    """
    require(actor, tenant, Role.OWNER)
    before = Budget.objects.select_for_update().filter(tenant=tenant).first()
    if not wish.amount.strip():
        if before is not None:
            before.delete()
            audit("budget.end", actor=actor, tenant=tenant)
        return ""
    budget = before or Budget(tenant=tenant)
    budget.amount = _amount(tenant, wish.amount)
    budget.actual, budget.forecast = _percents("actual", wish.actual), _percents("forecast", wish.forecast)
    budget.stop_launches = wish.stop_launches
    secret = _set_webhook(budget, actor, wish)
    budget.save()
    audit("budget.set", actor=actor, tenant=tenant, amount=plain(budget.amount), webhook=_host(budget.webhook_url))
    return secret


@transaction.atomic
def renew_secret(*, tenant: Tenant, actor: User) -> str:
    """What is signed from now on is signed with the new one.  Raises Missing, NotAllowed, Invalid (no webhook)."""
    require(actor, tenant, Role.OWNER)
    budget = Budget.objects.select_for_update().filter(tenant=tenant).exclude(webhook_url="").first()
    if budget is None:
        raise Invalid("webhook_url", _("There is no webhook to make a secret for."))
    secret = _new_secret(budget)
    budget.save(update_fields=["secret_encrypted"])
    audit("budget.secret", actor=actor, tenant=tenant)
    return secret


def _new_secret(budget: Budget) -> str:
    secret = random.token_urlsafe(32)
    budget.secret_encrypted = secrets.encrypt(secret)
    return secret


def _set_webhook(budget: Budget, actor: User, wish: Wish) -> str:
    url = wish.webhook_url.strip()
    changed = url != budget.webhook_url
    if actor.is_superuser:
        budget.webhook_inside = wish.webhook_inside
    elif changed:
        budget.webhook_inside = False
    budget.webhook_url = url
    if not url:
        budget.secret_encrypted = b""
        return ""
    _check_url(url, inside=budget.webhook_inside)
    return "" if budget.secret_encrypted else _new_secret(budget)


def _check_url(url: str, *, inside: bool) -> None:
    try:
        known = urlsplit(url)
        host, _port = known.hostname or "", known.port
    except ValueError:
        host = ""
    if (
        not host
        or len(url) > MOST_URL
        or known.username
        or known.password
        or not url.isascii()
        or not url.isprintable()
        or " " in url
    ):
        raise Invalid(
            "webhook_url", _("Write an address such as https://hooks.example.org/slipway, without a password in it.")
        )
    if known.scheme != "https" and not (inside and known.scheme == "http"):
        raise Invalid("webhook_url", _("The address begins with https://, so that nobody reads along."))
    if not inside and literal_is_inside(host, containers()):
        raise Invalid("webhook_url", _("This address lies on the node or inside its site: only an admin can allow it."))


def containers() -> str:
    """The block of the containers' subnets."""
    return Home.from_environment().subnets


def _host(url: str) -> str:
    return urlsplit(url).hostname or "" if url else ""


def _amount(tenant: Tenant, text: str) -> Decimal:
    currency = Prices(tenant.pk).currency
    if currency not in DIGITS:
        raise Invalid("amount", _("Publish a price book first: without one there is no currency."))
    try:
        found = Decimal(text.strip())
    except DecimalException:
        raise Invalid("amount", _("Write an amount such as 12.50.")) from None
    if not found.is_finite() or not 0 < found < 10**12 or found != rounded(found, currency):
        raise Invalid(
            "amount",
            _("Write an amount of %(currency)s above 0 and below a trillion, with %(digits)d decimals at most.")
            % {"currency": currency, "digits": DIGITS[currency]},
        )
    return found


def _percents(field: str, text: str) -> list[int]:
    words = text.replace(",", " ").replace("%", " ").split()
    if not all(
        word.isascii() and word.isdigit() and len(word) <= 4 and 0 < int(word) <= MOST_PERCENT for word in words
    ):
        raise Invalid(field, _("Write whole percents from 1 to 1000, such as 50, 80, 100."))
    found = sorted({int(word) for word in words})
    if len(found) > MOST_THRESHOLDS:
        raise Invalid(field, _("Choose ten thresholds at most."))
    return found


# ------------------------------------------------------------------------------------------------ while it runs


def refuse_over(tenant: Tenant, now: dt.datetime) -> None:
    """Raises Full where the tenant wants nothing launched, or started by hand, at 100 % and is there.  What runs goes on, its restarts too."""
    budget = Budget.objects.filter(tenant=tenant, stop_launches=True).first()
    found = spending(tenant, now) if budget is not None else None
    if budget is None or found is None or found.so_far < budget.amount:
        return
    raise Full(
        _(
            "The budget of this month, %(amount)s %(currency)s, is used up: nothing is launched before %(end)s. An owner can raise it."
        )
        % {"amount": plain(budget.amount), "currency": found.currency, "end": f"{month_of(now)[1]:%Y-%m-%d}"},
        field="budget",
    )


def check(now: dt.datetime) -> list[BudgetAlert]:
    """Every budget; returns the alerts that are new."""
    made = []
    for budget in Budget.objects.select_related("tenant").order_by("tenant"):
        found = spending(budget.tenant, now)
        if found is not None:
            made += _check(budget, found, _month_before(budget, found.month), now)
    return made


def _month_before(budget: Budget, month: dt.datetime) -> Spending | None:
    """At the first look after it: its last minutes, or days of which the database heard later, are told of, too."""
    if budget.checked_at is None or budget.checked_at >= month:
        return None
    return spending(budget.tenant, month - dt.timedelta(microseconds=1))


@transaction.atomic
def _check(budget: Budget, found: Spending, before: Spending | None, now: dt.datetime) -> list[BudgetAlert]:
    Budget.objects.filter(pk=budget.pk).update(spent=found.so_far, expected=found.forecast, checked_at=now)
    made: list[BudgetAlert] = []
    if before is not None:
        made += _reached(budget, before, BudgetAlert.Basis.ACTUAL, before.so_far, budget.actual, now)
    for basis, amount, percents in (
        (BudgetAlert.Basis.ACTUAL, found.so_far, budget.actual), (BudgetAlert.Basis.FORECAST, found.forecast, budget.forecast),
    ):  # fmt: skip
        made += _reached(budget, found, basis, amount, percents, now)
    failpoint("budget.reached")
    if made:
        announce(budget.tenant_id, "budget", budget.tenant_id)
    return made


def _reached(
    budget: Budget,
    found: Spending,
    basis: BudgetAlert.Basis,
    amount: Decimal,
    percents: Iterable[int],
    now: dt.datetime,
) -> list[BudgetAlert]:
    made = []
    for percent in percents:
        if amount * 100 < budget.amount * percent:
            continue
        alert, new = BudgetAlert.objects.get_or_create(
            tenant=budget.tenant, month=found.month, basis=basis, percent=percent, budget=budget.amount,
            defaults={"amount": amount, "currency": found.currency, "at": now},
        )  # fmt: skip
        if new:
            made.append(alert)
            if budget.webhook_url:
                _deliver(alert, now)
    return made


def _deliver(alert: BudgetAlert, now: dt.datetime) -> None:
    id = f"d{random.token_hex(12)}"
    WebhookDelivery.objects.create(id=id, tenant=alert.tenant, alert=alert, body=body(id, alert), due_at=now)


def body(id: str, alert: BudgetAlert) -> str:
    """JSON; amounts are texts, so that no reader rounds them."""
    said = {
        "id": id, "type": "budget.alert", "tenant": alert.tenant_id, "tenant_name": alert.tenant.name,
        "month": f"{alert.month:%Y-%m}", "basis": str(alert.basis), "percent": alert.percent, "budget": plain(alert.budget),
        "amount": plain(alert.amount), "currency": alert.currency, "at": alert.at.astimezone(dt.UTC).isoformat(),
        "node": settings.NODE,
    }  # fmt: skip
    return json.dumps(said, sort_keys=True)
