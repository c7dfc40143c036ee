"""What is metered (``usage``) and witnessed (``totals``), what it costs (``pricing``) and what is billed (``billing``)."""

from __future__ import annotations

from console.metering.models.billing import Credit, Invoice, Period, RatedLine, RatingRun
from console.metering.models.pricing import Price, PriceBook
from console.metering.models.totals import TenantCgroup, TenantHour
from console.metering.models.usage import Allocation, Meter, MeterEpoch, Quality, Reading, Resource, UsageRecord

__all__ = [
    "Allocation",
    "Credit",
    "Invoice",
    "Meter",
    "MeterEpoch",
    "Period",
    "Price",
    "PriceBook",
    "Quality",
    "RatedLine",
    "RatingRun",
    "Reading",
    "Resource",
    "TenantCgroup",
    "TenantHour",
    "UsageRecord",
]
