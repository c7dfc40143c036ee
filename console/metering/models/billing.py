"""Periods, ratings, credits and invoices.

A period's states::

    open --end has passed--> closing --rated, invoiced, frozen--> closed

Nothing is written into a closed one; what comes later is a correction in the tenant's next open period.
"""

from __future__ import annotations

from typing import ClassVar, Self

from django.conf import settings
from django.db import models

from console.core.models import TenantManager
from console.metering.models.decimals import ExactDecimalField
from console.metering.models.usage import Meter, Quality, Resource


class Period(models.Model):
    """One calendar month, UTC, of one tenant."""

    class State(models.TextChoices):
        OPEN = "open", "open"
        CLOSING = "closing", "closing"
        CLOSED = "closed", "closed"

    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    """Not included."""
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    run = models.OneToOneField("metering.RatingRun", null=True, on_delete=models.PROTECT, related_name="current_of")
    """The rating that counts; null before the first."""
    closed_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True, null=True)
    """Null for one that was made before this was kept."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "starts_at"], name="one_period_a_month")]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.starts_at:%Y-%m}"


class RatingRun(models.Model):
    """One rating of a period; the period points at the one that counts.  While the period is open, hours that come are added to it."""

    period = models.ForeignKey(Period, on_delete=models.CASCADE, related_name="runs")
    created_at = models.DateTimeField(auto_now_add=True)
    """When it began or, of one that was carried on, when that did."""
    lines_count = models.PositiveIntegerField(default=0)
    total = ExactDecimalField(default="0")
    sha256 = models.CharField(max_length=64, blank=True)
    """Of its lines in order (``services.tally``): the same inputs rate to the same.  Empty while it is written."""
    currency = models.CharField(max_length=3, blank=True)
    numbers = models.JSONField(default=dict)
    """Day -> the numbers of its first and its last line; corrections are behind all of them."""
    reached = models.JSONField(default=dict)
    """SKU -> how many base units of the month it has rated, as text: where in the tiers the next one is."""
    summary = models.JSONField(default=list)
    """What was bought at each price; see ``services.summary``."""
    settled = models.JSONField(default=dict)
    """Where the next rating can go on; see ``services.tally.Settled``.  Empty: nowhere."""

    def __str__(self) -> str:
        return f"run {self.pk} of {self.period_id}"


class RatedLine(models.Model):
    """What an hour of a resource costs on one meter, in one tier.  ``unit price x pricing quantity = cost``, exactly."""

    run = models.ForeignKey(RatingRun, on_delete=models.CASCADE, related_name="lines", db_index=False)
    number = models.PositiveIntegerField()
    """Order in the run, from 1."""
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT)
    window = models.DateTimeField()
    meter = models.CharField(max_length=16, choices=Meter.choices)
    sku = models.CharField(max_length=40)
    book = models.ForeignKey("metering.PriceBook", null=True, on_delete=models.PROTECT, related_name="+")
    list_book = models.ForeignKey("metering.PriceBook", null=True, on_delete=models.PROTECT, related_name="+")
    tier = models.CharField(max_length=16)
    """``included``, or the number of the tier from 0, of the contract and of the list: ``0/1``."""
    unit = models.CharField(max_length=24)
    quantity = ExactDecimalField()
    """In base units of the meter."""
    pricing_quantity = ExactDecimalField()
    list_unit_price = ExactDecimalField(null=True)
    """Null, as the next, for a correction, which may be of several tiers."""
    unit_price = ExactDecimalField(null=True)
    list_cost = ExactDecimalField()
    cost = ExactDecimalField()
    quality = models.CharField(max_length=12, choices=Quality.choices)
    """The least of its records'."""
    correction = models.BooleanField(default=False)
    """Of a period that was closed before the usage was known."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="one_line_a_number")]

    def __str__(self) -> str:
        return f"{self.sku} {self.cost}"


class Credit(models.Model):
    """Lowers the invoice of a period.  Append-only."""

    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="credits")
    key = models.CharField(max_length=64)
    """The asker's own: twice is once."""
    amount = ExactDecimalField()
    """Positive, in the period's currency."""
    reason = models.CharField(max_length=200)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="one_credit_a_key")]

    def __str__(self) -> str:
        return f"credit {self.amount} of {self.tenant_id}"


class Invoice(models.Model):
    """``charges - credits + adjustment = payable``; made once, when the period closes."""

    period = models.OneToOneField(Period, on_delete=models.PROTECT, related_name="invoice")
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    number = models.CharField(max_length=64, unique=True)
    currency = models.CharField(max_length=3)
    charges = ExactDecimalField()
    credits = ExactDecimalField()
    adjustment = ExactDecimalField()
    """What rounding half-even to the currency's smallest unit added; less than one such unit."""
    payable = ExactDecimalField()
    issued_at = models.DateTimeField()
    manifest = models.TextField()
    """Canonical JSON; ``sha256`` is its hash and is in the manifest of the tenant's next invoice."""
    sha256 = models.CharField(max_length=64)
    previous_sha256 = models.CharField(max_length=64, blank=True)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    def __str__(self) -> str:
        return self.number
