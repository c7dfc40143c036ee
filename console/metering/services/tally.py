"""What a rating has come to, line by line, and where a later one can go on."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from console.metering.models.decimals import plain
from console.metering.rating import Line, Used
from console.metering.services.summary import Summary
from console.metering.units import total

RULES = 1
"""Of rating.  Whoever has the same usage rated otherwise counts it up: what was rated before is then rated anew."""
NOTHING = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Settled:
    """How far a rating had come when it reached ``hour``, before which it expects nothing more."""

    hour: dt.datetime
    records: int
    """Usage records before ``hour``: another number than they are now, and something has come since."""
    lines: int
    cost: Decimal
    sha256: str
    reached: Mapping[str, int]
    summary: Sequence[Mapping[str, Any]]
    books: Sequence[int]
    """Price books that were looked at."""
    late: str
    """See ``corrections.origin``."""
    rules: int = RULES

    def told(self) -> dict[str, Any]:
        """As ``RatingRun.settled`` keeps it."""
        return {
            "hour": self.hour.isoformat(), "records": self.records, "lines": self.lines, "cost": plain(self.cost),
            "sha256": self.sha256, "reached": {sku: str(quantity) for sku, quantity in self.reached.items()},
            "summary": list(self.summary), "books": list(self.books), "late": self.late, "rules": self.rules,
        }  # fmt: skip


def settled(told: Mapping[str, Any]) -> Settled | None:
    """What :meth:`Settled.told` said; None for a rating from before there was such a place."""
    if not told:
        return None
    return Settled(
        dt.datetime.fromisoformat(told["hour"]), told["records"], told["lines"], Decimal(told["cost"]), told["sha256"],
        {sku: int(quantity) for sku, quantity in told["reached"].items()}, told["summary"], told["books"], told["late"],
        told["rules"],
    )  # fmt: skip


@dataclass(slots=True)
class Tally:
    """Its hash is a chain of one link for each hour, and one for the corrections: so it can go on from any hour."""

    records: int = 0
    lines: int = 0
    cost: Decimal = Decimal(0)
    sha256: str = NOTHING
    reached: dict[str, int] = field(default_factory=dict)
    """By SKU; ``rating.rate`` counts it on."""
    summary: Summary = field(default_factory=Summary)

    @classmethod
    def from_settled(cls, found: Settled) -> Tally:
        return cls(
            found.records, found.lines, found.cost, found.sha256, dict(found.reached), Summary(found.summary)
        )  # fmt: skip

    def settle(self, hour: dt.datetime, books: Collection[int], late: str) -> Settled:
        """Before the lines of ``hour``."""
        return Settled(
            hour, self.records, self.lines, self.cost, self.sha256, dict(self.reached), self.summary.rows(), list(books), late
        )  # fmt: skip

    def read(self, hour: Iterable[Used]) -> None:
        self.records += sum(one.records for one in hour)

    def link(self, parts: Iterable[Sequence[Line]]) -> Iterator[tuple[int, Sequence[Line]]]:
        """Each part of an hour's lines, or of the corrections, with the number of its first, which are counted once the asker is done with it."""
        digest = hashlib.sha256(self.sha256.encode())
        for part in parts:
            yield self.lines + 1, part
            self.lines += len(part)
            self.summary.add(part)
            for line in part:
                digest.update(text(line).encode() + b"\n")
                self.cost = total(self.cost, line.cost)
            self.sha256 = digest.hexdigest()


def text(line: Line) -> str:
    """What the hash is of: the same in whichever database it was rated."""
    prices = ["" if price is None else plain(price) for price in (line.list_unit_price, line.unit_price)]
    costs = [plain(cost) for cost in (line.pricing_quantity, line.list_cost, line.cost)]
    parts = [
        f"{line.window:%Y-%m-%dT%HZ}",
        line.resource,
        line.meter,
        line.sku,
        line.tier,
        line.unit,
        str(line.quantity),
    ]
    return "|".join([*parts, *prices, *costs, line.quality, "correction" if line.correction else ""])
