"""Sums by the day, for pages of a year: made from records and rated lines, and made anew where those have changed."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.core.models import TenantManager
from console.metering.models.billing import RatingRun
from console.metering.models.usage import Meter, Resource


class UsageDay(models.Model):
    """What a resource used on one meter on a UTC day.  ``whole x 10^9 + rest`` is the quantity; of neither half a sum overflows."""

    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT, db_index=False)
    day = models.DateTimeField()
    """Its first hour."""
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT, related_name="+", db_index=False)
    meter = models.CharField(max_length=16, choices=Meter.choices)
    whole = models.BigIntegerField()
    rest = models.BigIntegerField()

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "meter", "day", "resource"], name="one_sum_a_day"),
        ]
        indexes = [models.Index(fields=["meter", "day"], name="metering_usage_day")]

    def __str__(self) -> str:
        return f"{self.meter} {self.day:%Y-%m-%d}"


class StaleDay(models.Model):
    """A tenant's day that has records which no sum has yet.  Whoever stores records touches its row, so none is overlooked."""

    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, db_index=False)
    day = models.DateTimeField()
    marks = models.PositiveIntegerField(default=1)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "day"], name="one_mark_a_day")]

    def __str__(self) -> str:
        return f"{self.tenant_id} {self.day:%Y-%m-%d}"


class CostDay(models.Model):
    """What a resource costs on one meter on a UTC day, in one rating.

    ``nanos`` are billionths of the currency, rounded so that those of a rating sum to its total, rounded once.
    """

    run = models.ForeignKey(RatingRun, on_delete=models.CASCADE, related_name="days")
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT, db_index=False)
    day = models.DateTimeField()
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT, related_name="+", db_index=False)
    meter = models.CharField(max_length=16, choices=Meter.choices)
    whole = models.BigIntegerField()
    rest = models.BigIntegerField()
    nanos = models.BigIntegerField()

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        indexes = [
            models.Index(fields=["tenant", "day"], name="metering_cost_of_tenant"),
            models.Index(fields=["day"], name="metering_cost_day"),
            models.Index(fields=["resource", "day"], name="metering_cost_of_resource"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} {self.day:%Y-%m-%d} {self.nanos}"
