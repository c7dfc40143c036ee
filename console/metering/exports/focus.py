"""A period as FOCUS rows (FinOps Open Cost and Usage Specification 1.2 and 1.3), in a stream and in the same order each time.

A row is a dict by column name, with None for null.  Costs and quantities are Decimals with all their digits; nothing is rounded but
the invoice, whose rounding is one row of its own, so that the sum of BilledCost is the payable amount.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal

from console.metering.evidence import book_names
from console.metering.models import Meter, Period, RatedLine, Resource
from console.metering.models.decimals import plain
from console.metering.selectors.bills import Bill, bill
from console.metering.spans import DAY
from console.metering.splitting import HOUR

Version = Literal["1.2", "1.3"]
Row = dict[str, str | Decimal | None]
PROVIDER = "Slipway"

COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountStatus", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost",
    "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency",
    "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType",
    "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId",
    "SubAccountName", "SubAccountType", "Tags",
)  # fmt: skip
IN_1_3 = ("HostProviderName", "ServiceProviderName")
OURS = ("x_Image", "x_PriceBook", "x_Quality", "x_Tier")
NUMBERS = frozenset(
    {"BilledCost", "ConsumedQuantity", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "ListCost", "ListUnitPrice",
     "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity"}
)  # fmt: skip

Service = tuple[str, str, str]
"""ServiceCategory, ServiceName, ServiceSubcategory."""
COMPUTE: Service = ("Compute", "Containers", "Containers")
STORAGE: Service = ("Storage", "Volumes", "Block Storage")
NETWORK: Service = ("Networking", "Network", "Network Connectivity")
SERVICES: Mapping[str, Service] = {
    Meter.CPU: COMPUTE,
    Meter.CPU_LIMIT: COMPUTE,
    Meter.MEMORY_LIMIT: COMPUTE,
    Meter.MEMORY_USED: COMPUTE,
    Meter.BLOCK_READ: STORAGE,
    Meter.BLOCK_WRITE: STORAGE,
    Meter.VOLUME_SIZE: STORAGE,
    Meter.DISK_SIZE: STORAGE,
    Meter.NET_RX: NETWORK,
    Meter.NET_TX: NETWORK,
    Meter.PUBLISHED_PORT: NETWORK,
}
TYPES = {Resource.Kind.CONTAINER: "Container", Resource.Kind.PORT: "Published Port", Resource.Kind.VOLUME: "Volume"}
METERS: Mapping[str, str] = {
    Meter.CPU: "vCPU time used",
    Meter.CPU_LIMIT: "vCPU limit held",
    Meter.MEMORY_LIMIT: "Memory limit held",
    Meter.MEMORY_USED: "Memory used",
    Meter.BLOCK_READ: "Bytes read from block devices",
    Meter.BLOCK_WRITE: "Bytes written to block devices",
    Meter.NET_RX: "Bytes received",
    Meter.NET_TX: "Bytes sent",
    Meter.PUBLISHED_PORT: "Published ports held",
    Meter.VOLUME_SIZE: "Volume size held",
    Meter.DISK_SIZE: "Disk size held",
}


def columns(version: Version) -> tuple[str, ...]:
    known = (*COLUMNS, *IN_1_3) if version == "1.3" else COLUMNS
    return (*sorted(known), *OURS)


def rows(period: Period, day: dt.datetime | None = None) -> Iterator[Row]:
    """Usage first, then credits, then the rounding.  An open period has no rounding and no InvoiceId yet.

    ``day``: the usage of this day alone; what is the month's (corrections, credits, the rounding) is left out.
    """
    found, names = bill(period), book_names(period)
    common = _common(found)
    for line in _lines(period, day):
        yield common | _usage(line, names)
    if day is not None:
        return
    for credit in period.credits.order_by("pk"):
        yield common | _other("Credit", credit.amount.copy_negate(), credit.reason, found)
    if found.adjustment:
        yield common | _other(
            "Adjustment", found.adjustment, "Rounding of the invoice to the currency's smallest unit", found
        )


def _lines(period: Period, day: dt.datetime | None) -> Iterator[RatedLine]:
    lines = RatedLine.objects.filter(run__current_of=period).select_related("resource").order_by("number")
    if day is not None:
        lines = lines.filter(correction=False, window__gte=day, window__lt=day + DAY)
    yield from lines.iterator(chunk_size=2000)


def _common(found: Bill) -> Row:
    empty: Row = dict.fromkeys((*COLUMNS, *IN_1_3, *OURS))
    return empty | {
        "BillingAccountId": found.tenant_id,
        "BillingAccountName": found.tenant_name,
        "BillingCurrency": found.currency,
        "BillingPeriodStart": moment(found.starts_at),
        "BillingPeriodEnd": moment(found.ends_at),
        "InvoiceId": found.number or None,
        "InvoiceIssuerName": PROVIDER,
        "ProviderName": PROVIDER,
        "PublisherName": PROVIDER,
        "HostProviderName": PROVIDER,
        "ServiceProviderName": PROVIDER,
        "SubAccountId": found.tenant_id,
        "SubAccountName": found.tenant_name,
        "SubAccountType": "Tenant",
        "PricingCurrency": found.currency,
    }


def _usage(line: RatedLine, names: Mapping[int, str]) -> Row:
    resource = line.resource
    category, service, subcategory = SERVICES[line.meter]
    list_tier = line.tier.rpartition("/")[2]
    tier = None if line.correction else f"{line.sku}-{list_tier}"
    return {
        "BilledCost": line.cost,
        "EffectiveCost": line.cost,
        "ContractedCost": line.cost,
        "ListCost": line.list_cost,
        "ListUnitPrice": line.list_unit_price,
        "ContractedUnitPrice": line.unit_price,
        "PricingCurrencyEffectiveCost": line.cost,
        "PricingCurrencyListUnitPrice": line.list_unit_price,
        "PricingCurrencyContractedUnitPrice": line.unit_price,
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if line.correction else None,
        "ChargeDescription": f"{METERS[line.meter]}: {resource.name}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": moment(line.window),
        "ChargePeriodEnd": moment(line.window + HOUR),
        "ConsumedQuantity": line.pricing_quantity,
        "ConsumedUnit": line.unit,
        "PricingCategory": "Standard",
        "PricingQuantity": line.pricing_quantity,
        "PricingUnit": line.unit,
        "RegionId": resource.node,
        "RegionName": resource.node,
        "ResourceId": resource.identity,
        "ResourceName": resource.name,
        "ResourceType": TYPES[Resource.Kind(resource.kind)],
        "ServiceCategory": category,
        "ServiceName": service,
        "ServiceSubcategory": subcategory,
        "SkuId": line.sku,
        "SkuMeter": METERS[line.meter],
        "SkuPriceId": tier,
        "SkuPriceDetails": None if tier is None else json.dumps({"x_Tier": list_tier}),
        "SubAccountName": resource.tenant_name,
        "BillingAccountName": resource.tenant_name,
        "Tags": json.dumps(resource.labels, sort_keys=True),
        "x_Image": resource.image or None,
        "x_PriceBook": names.get(line.book_id or 0),
        "x_Quality": line.quality,
        "x_Tier": line.tier or None,
    }


def _other(category: str, amount: Decimal, description: str, found: Bill) -> Row:
    """A charge that no usage of a resource makes; it is the containers' service's."""
    return {
        "BilledCost": amount,
        "EffectiveCost": amount,
        "ContractedCost": amount,
        "ListCost": amount,
        "PricingCurrencyEffectiveCost": amount,
        "ChargeCategory": category,
        "ChargeDescription": description,
        "ChargeFrequency": "One-Time",
        "ChargePeriodStart": moment(found.starts_at),
        "ChargePeriodEnd": moment(found.ends_at),
        "ServiceCategory": COMPUTE[0],
        "ServiceName": COMPUTE[1],
        "ServiceSubcategory": COMPUTE[2],
        "Tags": "{}",
    }


def moment(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def number(value: Decimal) -> str:
    """With a point, so that no reader takes a column of whole amounts for integers."""
    text = plain(value)
    return text if "." in text else f"{text}.0"


def csv_chunks(period: Period, version: Version, day: dt.datetime | None = None) -> Iterator[str]:
    """UTF-8, RFC 4180; null is an empty cell without quotes."""
    yield from csv_table(columns(version), rows(period, day))


def csv_table(names: Sequence[str], found: Iterable[Row]) -> Iterator[str]:
    """As ``csv_chunks``, of any rows that have a cell for each name."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(names)
    for count, row in enumerate(found, 1):
        writer.writerow([_cell(row[name]) for name in names])
        if count % 500 == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _cell(value: str | Decimal | None) -> str | None:
    return number(value) if isinstance(value, Decimal) else value
