"""Pricing units of each meter, as whole numbers of its base units.  Pure.

Each size divides by 2 and 5 alone, so a quantity in a pricing unit is a decimal that ends: ``price x quantity = cost`` holds to the
last digit.  That is why there are seconds and no hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation

from console.metering.models.usage import Meter

EXACT = Context(prec=400, traps=[Inexact, InvalidOperation])
"""Raises rather than rounds."""
US = 10**6
_GIB_SECONDS = {"GiB-Seconds": 2**20 * US, "MiB-Seconds": 2**10 * US}
_SIZES = {"GB": 10**9, "GiB": 2**30, "MB": 10**6, "MiB": 2**20}
_CORES = {"Core-Seconds": 10**9}

UNITS: Mapping[Meter, Mapping[str, int]] = {
    Meter.CPU: _CORES,
    Meter.CPU_LIMIT: _CORES,
    Meter.MEMORY_LIMIT: _GIB_SECONDS,
    Meter.MEMORY_USED: _GIB_SECONDS,
    Meter.VOLUME_SIZE: _GIB_SECONDS,
    Meter.DISK_SIZE: _GIB_SECONDS,
    Meter.BLOCK_READ: _SIZES,
    Meter.BLOCK_WRITE: _SIZES,
    Meter.NET_RX: _SIZES,
    Meter.NET_TX: _SIZES,
    Meter.PUBLISHED_PORT: {"Port-Seconds": US},
}

SHOWN: Mapping[Meter, tuple[str, int]] = {
    **dict.fromkeys((Meter.CPU, Meter.CPU_LIMIT), ("vCPU·s", 10**9)),
    **dict.fromkeys((Meter.MEMORY_LIMIT, Meter.MEMORY_USED, Meter.VOLUME_SIZE, Meter.DISK_SIZE), ("GiB·s", 2**20 * US)),
    **dict.fromkeys((Meter.BLOCK_READ, Meter.BLOCK_WRITE, Meter.NET_RX, Meter.NET_TX), ("GB", 10**9)),
    Meter.PUBLISHED_PORT: ("port·s", US),
}
"""What a person reads a meter in: the unit, and its size in base units."""


def in_units(quantity: int, size: int) -> Decimal:
    return EXACT.divide(Decimal(quantity), Decimal(size))


def product(left: Decimal, right: Decimal) -> Decimal:
    return EXACT.multiply(left, right)


def difference(whole: Decimal, part: Decimal) -> Decimal:
    """Decimal's own minus sign rounds to 28 digits; this does not."""
    return EXACT.subtract(whole, part)


def total(*parts: Decimal) -> Decimal:
    found = Decimal(0)
    for part in parts:
        found = EXACT.add(found, part)
    return found
