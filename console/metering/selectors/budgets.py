"""Budgets as people see them: how far the month is, and what was told."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.metering.models import Budget, BudgetAlert
from console.metering.models.decimals import plain
from console.metering.months import month_of


@dataclass(frozen=True, slots=True)
class Progress:
    budget: Budget
    spent: Decimal
    expected: Decimal

    @property
    def percent(self) -> int:
        return int(self.spent * 100 / self.budget.amount)

    @property
    def expected_percent(self) -> int:
        return int(self.expected * 100 / self.budget.amount)

    @property
    def level(self) -> str:
        """``over``, ``near`` (the forecast is over it) or ``fine``."""
        if self.spent >= self.budget.amount:
            return "over"
        return "near" if self.expected > self.budget.amount else "fine"


def budget(tenant: Tenant) -> Budget | None:
    return Budget.objects.of(tenant).first()


def everybodys() -> list[Progress]:
    """As they were last checked, those nearest to their end first; for admins."""
    found = [Progress(one, one.spent, one.expected) for one in Budget.objects.select_related("tenant")]
    return sorted(found, key=lambda one: (-one.percent, one.budget.tenant.name))


def alerts(tenant: Tenant) -> QuerySet[BudgetAlert]:
    """The newest first, with how their telling went."""
    return BudgetAlert.objects.of(tenant).select_related("delivery").order_by("-at", "-percent")


def warnings(tenant: Tenant, now: dt.datetime) -> list[str]:
    """Of this month and of the budget as it is now, one sentence on each basis: the highest threshold that was reached, and still is as far
    as it was last checked: a forecast falls when something is stopped, and the cost by a credit.
    """
    found = budget(tenant)
    if found is None:
        return []
    reached = {BudgetAlert.Basis.ACTUAL: found.spent, BudgetAlert.Basis.FORECAST: found.expected}
    highest: dict[str, BudgetAlert] = {}
    told = BudgetAlert.objects.of(tenant).filter(month=month_of(now)[0], budget=found.amount)
    for alert in told.order_by("percent"):
        if reached[BudgetAlert.Basis(alert.basis)] * 100 >= found.amount * alert.percent:
            highest[alert.basis] = alert
    return [sentence(highest[basis]) for basis in sorted(highest)]


def sentence(alert: BudgetAlert) -> str:
    words = {"percent": alert.percent, "budget": plain(alert.budget), "currency": alert.currency}
    if alert.basis == BudgetAlert.Basis.ACTUAL:
        return _("%(percent)d%% of this month's budget of %(budget)s %(currency)s is spent.") % words
    return (
        _(
            "This month will cost %(percent)d%% of its budget of %(budget)s %(currency)s, or more, if it goes on like this."
        )
        % words
    )
