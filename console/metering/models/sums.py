"""Sums by the day and the month, for pages of a month and a year: made of records and rated lines, and anew where those have changed."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.core.models import TenantManager
from console.metering.models.billing import RatingRun
from console.metering.models.usage import Meter, Resource


class Summed(models.Model):
    """Of one resource on one meter, in a stretch of time and in a unit that the table says."""

    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT, db_index=False)
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT, related_name="+", db_index=False)
    meter = models.CharField(max_length=16, choices=Meter.choices)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        abstract = True


class Quantity(Summed):
    """In base units: ``whole x 10^9 + rest``; of neither half a sum overflows."""

    whole = models.BigIntegerField()
    rest = models.BigIntegerField()

    class Meta:
        abstract = True


class UsageDay(Quantity):
    """What a resource used on one meter on a UTC day."""

    day = models.DateTimeField()
    """Its first hour."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "meter", "day", "resource"], name="one_sum_a_day"),
        ]
        indexes = [models.Index(fields=["meter", "day"], name="metering_usage_day")]

    def __str__(self) -> str:
        return f"{self.meter} {self.day:%Y-%m-%d}"


class UsageMonth(Quantity):
    """The sum of a UTC month's :class:`UsageDay`, made in the same transaction."""

    month = models.DateTimeField()
    """Its first hour."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "meter", "month", "resource"], name="one_sum_a_month"),
        ]
        indexes = [models.Index(fields=["meter", "month"], name="metering_usage_month")]

    def __str__(self) -> str:
        return f"{self.meter} {self.month:%Y-%m}"


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


class CostDay(Quantity):
    """What a resource costs on one meter on a UTC day, in one rating.

    ``nanos`` are billionths of the currency, rounded so that those of a rating sum to its total, rounded once.
    """

    run = models.ForeignKey(RatingRun, on_delete=models.CASCADE, related_name="days", db_index=False)
    day = models.DateTimeField()
    nanos = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["run", "day"], name="metering_cost_day_of_run"),
            models.Index(fields=["resource", "day"], name="metering_cost_of_resource"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} {self.day:%Y-%m-%d} {self.nanos}"


class CostMonth(Summed):
    """The sum of a month's :class:`CostDay` of one rating."""

    run = models.ForeignKey(RatingRun, on_delete=models.CASCADE, related_name="months", db_index=False)
    month = models.DateTimeField()
    nanos = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["run", "month"], name="metering_cost_month")]

    def __str__(self) -> str:
        return f"{self.meter} {self.month:%Y-%m} {self.nanos}"
