"""Price books: immutable once published."""

from __future__ import annotations

from django.db import models

from console.metering.models.decimals import ExactDecimalField
from console.metering.models.usage import Meter


class PriceBook(models.Model):
    """The list prices (``tenant`` null) or a tenant's contract, which goes before the list for the SKUs that it has.

    In force is, at any hour, the published book with the latest ``valid_from`` not after it; of two with the same, the
    higher version.
    """

    tenant = models.ForeignKey("accounts.Tenant", null=True, on_delete=models.PROTECT)
    version = models.PositiveIntegerField()
    currency = models.CharField(max_length=3)
    """ISO 4217."""
    valid_from = models.DateTimeField()
    """A full UTC hour."""
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True)
    sha256 = models.CharField(max_length=64, blank=True)
    """Of the canonical text, see ``pricing.canonical``; empty before it is published."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="one_version_a_contract"),
            models.UniqueConstraint(
                fields=["version"], condition=models.Q(tenant__isnull=True), name="one_version_a_list"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id or 'list'} v{self.version}"

    @property
    def called(self) -> str:
        """For a person: ``list v3``, or by the tenant's name."""
        return f"{self.tenant.name if self.tenant else 'list'} v{self.version}"


class Price(models.Model):
    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="prices")
    sku = models.CharField(max_length=40)
    meter = models.CharField(max_length=16, choices=Meter.choices)
    unit = models.CharField(max_length=24)
    """A key of ``units.UNITS``, such as ``GiB-Seconds``."""
    included = ExactDecimalField(default="0")
    """So many units of each month cost nothing."""
    tiers = models.JSONField()
    """``[["0", "0.00002"], ["1000", "0.000015"]]``: from so many units of a month beyond the included, each costs so much."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["book", "sku"], name="one_price_a_sku"),
            models.UniqueConstraint(fields=["book", "meter"], name="one_price_a_meter"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} in {self.book_id}"
