"""Budgets: what a tenant's month may cost, who is told when it nears that, and how the telling went."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.accounts.models import Tenant
from console.core.models import TenantManager
from console.metering.models.decimals import ExactDecimalField


class Budget(models.Model):
    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True)
    amount = ExactDecimalField()
    """Of each UTC month, in the currency of the price books."""
    actual = models.JSONField(default=list)
    """Percents of ``amount`` at which the cost so far is told, ascending."""
    forecast = models.JSONField(default=list)
    """Likewise of the month's forecast."""
    stop_launches = models.BooleanField(default=False)
    """At 100 % nothing more is launched until the month is over or the budget is raised."""
    webhook_url = models.CharField(max_length=500, blank=True)
    webhook_inside = models.BooleanField(default=False)
    """An admin allowed the address to lie on the node or inside its site."""
    secret_encrypted = models.BinaryField(default=b"")
    """What deliveries are signed with."""
    spent = ExactDecimalField(default="0")
    """As it was last checked; likewise the next two."""
    expected = ExactDecimalField(default="0")
    checked_at = models.DateTimeField(null=True)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    def __str__(self) -> str:
        return f"budget of {self.tenant_id}"


class BudgetAlert(models.Model):
    """A threshold that was reached: once a month and amount, whatever the cost does after."""

    class Basis(models.TextChoices):
        ACTUAL = "actual", "actual"
        FORECAST = "forecast", "forecast"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    month = models.DateTimeField()
    basis = models.CharField(max_length=8, choices=Basis.choices)
    percent = models.PositiveIntegerField()
    budget = ExactDecimalField()
    """As it was then."""
    amount = ExactDecimalField()
    """What it cost then, or was expected to."""
    currency = models.CharField(max_length=3)
    at = models.DateTimeField()

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "month", "basis", "percent", "budget"], name="one_alert_a_threshold"
            )
        ]

    def __str__(self) -> str:
        return f"{self.basis} {self.percent} % of {self.tenant_id}"


class WebhookDelivery(models.Model):
    """A message that must reach an address: tried until it has or is given up; at least once, so its id is in it.

    ::

        waiting --2xx--> delivered
           \\--MOST_ATTEMPTS, or an address that is not allowed--> given_up
    """

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        DELIVERED = "delivered", "delivered"
        GIVEN_UP = "given_up", "given up"

    id = models.CharField(primary_key=True, max_length=32)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    alert = models.OneToOneField(BudgetAlert, on_delete=models.CASCADE, related_name="delivery")
    body = models.TextField()
    """What is signed and sent, to the byte."""
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField()
    """When it is tried next; while somebody tries it, when another may."""
    error = models.CharField(max_length=200, blank=True)
    """Why the last try failed; in English, see ``core.sentences``."""
    delivered_at = models.DateTimeField(null=True)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        indexes = [models.Index(fields=["state", "due_at"], name="metering_delivery_due")]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"
