"""What is metered (``usage``) and witnessed (``totals``), what it costs (``pricing``), what is billed (``billing``) and by which clock (``clock``), and sums of these for
pages (``sums``)."""

from __future__ import annotations

from console.metering.models.billing import Credit, Invoice, Period, RatedLine, RatingRun
from console.metering.models.budgets import Budget, BudgetAlert, WebhookDelivery
from console.metering.models.clock import MachineClock
from console.metering.models.exports import ExportDelivery, ExportSchedule
from console.metering.models.pricing import Price, PriceBook
from console.metering.models.sums import CostDay, CostMonth, StaleDay, UsageDay, UsageMonth
from console.metering.models.totals import TenantCgroup, TenantHour
from console.metering.models.usage import Allocation, Meter, MeterEpoch, Quality, Reading, Resource, UsageRecord

__all__ = [
    "Allocation",
    "Budget",
    "BudgetAlert",
    "CostDay",
    "CostMonth",
    "Credit",
    "ExportDelivery",
    "ExportSchedule",
    "Invoice",
    "MachineClock",
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
    "StaleDay",
    "TenantCgroup",
    "TenantHour",
    "UsageDay",
    "UsageMonth",
    "UsageRecord",
    "WebhookDelivery",
]
