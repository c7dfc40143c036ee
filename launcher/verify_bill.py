#!/usr/bin/env python3
"""Recomputes a bill from the readings and the prices it rests on, and names every difference.

It stands alone: Python 3.11, its standard library, and the folder of an export.  It shares no code with what made the bill.

    python3 verify_bill.py FOLDER [--with FOLDER-OF-AN-EARLIER-PERIOD ...] [--sha256 HASH-OF-THE-INVOICE]

Exit code: 0 nothing differs, 1 something does, 2 the folder cannot be read, or no temporary file be written.

A month may have millions of lines, so no file is held in memory.  What goes by a file's own order is read as a stream.  For what needs
another order (the records and readings of each start of a container, the hours in which they are rated) a temporary database of SQLite
has where each line begins, and sorts that: no order of these files is relied on.  Their lines are then read again where they lie, of
one start at a time.  The database takes about an eighth of the export's size on disk and is gone when the program ends, however it ends.
"""

from __future__ import annotations

import argparse
import copy
import csv
import datetime as dt
import hashlib
import heapq
import json
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from functools import lru_cache
from itertools import chain, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Self

Data = dict[str, Any]
EXACT = Context(prec=400, traps=[Inexact])
WIDE = Context(prec=400)
HOUR_US = 3_600_000_000
LARGEST = 2**63 - 1
"""Quantity of a record."""
LONGEST_STEP_US = 24 * HOUR_US
"""By so much a clock may be set between two readings that are still believed both."""
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)  # noqa: UP017 -- as a person without this project's tools reads it
COUNTERS = ("cpu", "block_read", "block_write", "net_rx", "net_tx")
LIMITS = ("cpu_limit", "memory_limit")
STREAMS = ("resources", "epochs", "allocations", "readings", "records", "lines", "prices", "credits")
QUALITIES = ("exact", "integrated", "estimated", "missing")
NO_DIGITS = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"]
)
THREE_DIGITS = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])
TYPES = {"container": "Container", "port": "Published Port", "volume": "Volume"}
OF_USAGE = ("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit", "ConsumedQuantity", "ConsumedUnit",
            "SkuId", "SkuPriceId", "ResourceId", "ResourceName", "x_PriceBook", "x_Tier")  # fmt: skip
"""Columns of FOCUS that are null where a row is a credit or the rounding."""
NO_EXPORT = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, csv.Error, sqlite3.Error)
"""What files that are none of an export's raise."""
csv.field_size_limit(1 << 24)


@lru_cache(10_000)
def us(text: str) -> int:
    """Microseconds since 1970."""
    return (dt.datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH) // dt.timedelta(microseconds=1)


@lru_cache(10_000)
def hour(at_us: int) -> str:
    return (EPOCH + dt.timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%HZ")


def plain(value: Decimal) -> str:
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text


def sha256(path: Path) -> str:
    return measured(path)[0]


def measured(path: Path) -> tuple[str, int]:
    """Its hash and how many lines it has."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return digest.hexdigest(), lines + (last != b"\n")


@dataclass
class Bundle:
    folder: Path
    bill: Data
    counts: dict[str, int] = field(default_factory=dict)
    """Lines of the files that were looked at."""

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Raises OSError and ValueError for what is no export."""
        return cls(folder, json.loads((folder / "bill.json").read_text(encoding="utf-8")))

    def rows(self, name: str) -> Iterator[Data]:
        """In the order of the file.  Raises OSError and ValueError."""
        return (one for _, one in self.placed(name))

    def placed(self, name: str) -> Iterator[tuple[int, Data]]:
        """Each with where in the file it begins."""
        at = 0
        with self.path(name).open("rb") as handle:
            for line in handle:
                yield at, json.loads(line.decode("utf-8"))
                at += len(line)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    @property
    def start(self) -> int:
        return us(self.bill["period"]["start"])

    @property
    def end(self) -> int:
        return us(self.bill["period"]["end"])

    @property
    def sha256(self) -> str:
        return hashlib.sha256((self.folder / "bill.json").read_bytes().rstrip(b"\n")).hexdigest()


class Index:
    """Where a bundle's lines are, by what they are asked for.  ``at`` is where in its file a line begins.

    Of two resources by one id the last counts.  Of two sources by one id the first has all records, and those by the last one's owner.
    """

    TABLES = """
        PRAGMA journal_mode = OFF;
        PRAGMA cache_size = -16384;  -- KiB; as much again for what is sorted
        CREATE TABLE resources (id PRIMARY KEY, identity, at);
        CREATE TABLE sources (id PRIMARY KEY, number, container, resource);  -- epochs, then allocations, as they are numbered
        CREATE TABLE readings (source, at);
        CREATE TABLE records (source, resource, meter, window, at);
        CREATE TABLE lines (window, resource, sku, at);
        CREATE INDEX lines_by_hour ON lines (window, resource);
    """
    RESOURCES_KEPT = 2_000

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._files: dict[str, BinaryIO] = {}
        self._opened = ExitStack()
        # Without a name it is a temporary file of SQLite's own, which nobody else sees and nothing is left of.
        self._db = self._opened.enter_context(closing(sqlite3.connect("")))
        self._db.executescript(self.TABLES)
        self.resource = lru_cache(self.RESOURCES_KEPT)(self._resource)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failed: object) -> None:
        self._opened.close()

    def take_sources(self) -> None:
        placed, rows = self.bundle.placed, self.bundle.rows
        found = ((_name(one["id"]), _name(one["identity"]), at) for at, one in placed("resources"))
        self._db.executemany("INSERT OR REPLACE INTO resources VALUES (?, ?, ?)", found)
        lives = ((_name(one["id"]), _name(one["container"]), None) for one in rows("epochs"))
        held = ((_name(one["id"]), None, _name(one["resource"])) for one in rows("allocations"))
        self._db.executemany(
            "INSERT INTO sources VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "container = excluded.container, resource = excluded.resource",
            ((id, number, *whose) for number, (id, *whose) in enumerate(chain(lives, held))),
        )

    def take_readings(self) -> None:
        found = ((_name(one["epoch"]), at) for at, one in self.bundle.placed("readings"))
        self._db.executemany("INSERT INTO readings VALUES (?, ?)", found)

    def take_records(self) -> None:
        found = (
            (
                _name(one["epoch"] or one["allocation"]),
                _name(one["resource"]),
                _name(one["meter"]),
                us(one["window"]),
                at,
            )
            for at, one in self.bundle.placed("records")
        )
        self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", found)

    def take_lines(self, found: Iterable[tuple[int, Data]]) -> None:
        rows = ((_name(one["window"]), _name(one["resource"]), _name(one["sku"]), at) for at, one in found)
        self._db.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", rows)

    def _read(self, name: str, at: int) -> Data:
        if name not in self._files:
            self._files[name] = self._opened.enter_context(self.bundle.path(name).open("rb"))
        self._files[name].seek(at)
        found: Data = json.loads(self._files[name].readline().decode("utf-8"))
        return found

    def _resource(self, id: str) -> Data:
        """Empty: there is none."""
        for (at,) in self._db.execute("SELECT at FROM resources WHERE id = ?", (_name(id),)):
            return self._read("resources", at)
        return {}

    def by_source(self, name: str) -> BySource:
        """The lines of each epoch, then of each allocation, of ``readings`` or ``records``."""
        found = self._db.execute(
            f"SELECT number, {name}.at FROM {name} CROSS JOIN sources ON sources.id = source ORDER BY number, {name}.at"  # noqa: S608 -- one of ours
        )
        return BySource((number, self._read(name, at)) for number, at in found)

    def of_others(self) -> Iterator[tuple[str, str, str]]:
        """Records that are billed to another than their source is of: their ids, whose it is, and who is billed."""
        found = self._db.execute(
            "SELECT records.at, coalesce(sources.container, owner.identity) AS whose, billed.identity FROM records "
            "CROSS JOIN sources ON sources.id = source LEFT JOIN resources AS owner ON owner.id = sources.resource "
            "LEFT JOIN resources AS billed ON billed.id = records.resource "
            "WHERE whose IS NOT billed.identity ORDER BY records.rowid"
        )
        return ((self._read("records", at)["id"], whose, billed) for at, whose, billed in found)

    def strangers(self) -> Iterator[str]:
        """What records say that they are from, and what is none of the sources."""
        found = self._db.execute(
            "SELECT source FROM records LEFT JOIN sources ON sources.id = source WHERE sources.id IS NULL "
            "GROUP BY source ORDER BY min(records.rowid)"
        )
        return (source for (source,) in found)

    def used(self, start: int, end: int, meters: Container[str] | None) -> Iterator[tuple[int, str, str, int, int]]:
        """(hour, resource, meter, quantity, number of its quality) of each record, in the order of the first three."""
        found = self._db.execute(
            "SELECT window, resource, meter, at FROM records WHERE window >= ? AND window < ? "
            "ORDER BY window, resource, meter", (start, end)
        )  # fmt: skip
        for window, resource, meter, at in found:
            if meters is None or meter in meters:
                one = self._read("records", at)
                yield window, resource, meter, one["quantity"], QUALITIES.index(one["quality"])

    def windows_before(self, at_us: int) -> list[int]:
        found = self._db.execute("SELECT DISTINCT window FROM records WHERE window < ? ORDER BY window", (at_us,))
        return [window for (window,) in found]

    def meters(self, start: int, end: int) -> set[str]:
        found = self._db.execute("SELECT DISTINCT meter FROM records WHERE window >= ? AND window < ?", (start, end))
        return {meter for (meter,) in found}

    def lines(self, window: str, resource: str) -> Iterator[Data]:
        """Of those that were taken."""
        found = self._db.execute(
            "SELECT at FROM lines WHERE window = ? AND resource = ? ORDER BY at", (window, resource)
        )
        return (self._read("lines", at) for (at,) in found)

    def count_of_lines(self) -> int:
        """By hour, resource and SKU."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM (SELECT DISTINCT window, resource, sku FROM lines)"
        ).fetchone()
        return int(count)


def _name(value: object) -> str | None:
    """As it is kept, also where somebody made another thing of it than a text."""
    return None if value is None else str(value)


class BySource:
    """Lines in the order of their sources' numbers: those of one at a time, by rising numbers."""

    def __init__(self, rows: Iterable[tuple[int, Data]]) -> None:
        self._groups = groupby(rows, key=itemgetter(0))
        self._next = next(self._groups, None)

    def of(self, number: int) -> list[Data]:
        if self._next is None or self._next[0] != number:
            return []
        found = [one for _, one in self._next[1]]
        self._next = next(self._groups, None)
        return found


# ------------------------------------------------------------------------------------------------ files


def check_files(bundle: Bundle) -> Iterator[str]:
    manifest = json.loads((bundle.folder / "manifest.json").read_text(encoding="utf-8"))
    listed = manifest["files"]
    there = {path.name for path in bundle.folder.iterdir()} - {"manifest.json"}
    for name in sorted(there - set(listed)):
        yield f"manifest: {name} is not listed"
    for name, said in sorted(listed.items()):
        if name not in there:
            yield f"manifest: {name} is listed and missing"
        elif sha256(bundle.folder / name) != said["sha256"]:
            yield f"manifest: {name} was changed: its hash is not the listed one"
    yield from _check_streams(bundle)


def _check_streams(bundle: Bundle) -> Iterator[str]:
    for name in STREAMS:
        found, said = measured(bundle.path(name)), bundle.bill["streams"][name]
        bundle.counts[name] = found[1]
        if found != (said["sha256"], said["lines"]):
            yield f"bill: {name}.jsonl is not what the invoice was made from"


def check_prices(bundle: Bundle) -> Iterator[str]:
    for one in bundle.rows("prices"):
        text = json.dumps(one["book"], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        if hashlib.sha256(text.encode()).hexdigest() != one["sha256"]:
            yield f"prices: {one['name']} is not the book that was published: its hash differs"


def check_price_list(bundle: Bundle) -> Iterator[str]:
    """The same prices as a table; ``From`` counts included units, too."""
    name = "price-list.csv"
    wanted = [row for one in bundle.rows("prices") for row in _price_rows(one)]
    with (bundle.folder / name).open(encoding="utf-8", newline="") as handle:
        found = list(csv.DictReader(handle))
    for number, (row, price) in enumerate(zip(found, wanted, strict=False), 2):
        for column, value in price.items():
            if _of_cell(row[column], value) != value:
                yield f"{name}: row {number}: {column} is {row[column]}, and by the book {_told(value)}"
    if len(found) != len(wanted):
        yield f"{name}: there are {len(found)} rows, and the books make {len(wanted)}"


def _price_rows(one: Data) -> Iterator[Data]:
    book = one["book"]
    for price in book["prices"]:
        included = Decimal(price["included"])
        steps = [("i", Decimal(0), Decimal(0))] if included else []
        steps += [
            (str(tier), EXACT.add(included, Decimal(start)), Decimal(each))
            for tier, (start, each) in enumerate(price["tiers"])
        ]
        for tier, start, each in steps:
            yield {
                "PriceBook": one["name"], "ValidFrom": us(book["valid_from"]), "SkuId": price["sku"],
                "SkuPriceId": f"{price['sku']}-{tier}", "PricingUnit": price["unit"], "From": start, "UnitPrice": each,
                "BillingCurrency": book["currency"],
            }  # fmt: skip


# ------------------------------------------------------------------------------------------------ records


@dataclass(frozen=True)
class Point:
    """A reading as an end of an interval."""

    at_us: int
    ns: int
    value: int = 0


def believed(start: Point, end: Point, step: int) -> Point:
    """``start``, or where the clock was set by more than ``step`` before ``end``, that moment by the clock of the end."""
    boot_us = max(0, end.ns // 1000 - start.ns // 1000)
    if abs(end.at_us - start.at_us - boot_us) <= step:
        return start
    return Point(end.at_us - boot_us, start.ns, start.value)


@dataclass(frozen=True)
class Interval:
    meter: str
    start: int
    """Sequences."""
    end: int


def split(quantity: int, start: int, end: int) -> list[tuple[int, int, int, int]]:
    """(hour, from, to, part): by time with largest remainder, so that the parts sum to the quantity."""
    if end <= start:
        return [(start - start % HOUR_US, start, start, quantity)]
    pieces = []
    at = start - start % HOUR_US
    while at < end:
        pieces.append((at, max(start, at), min(end, at + HOUR_US)))
        at += HOUR_US
    shares = [divmod(quantity * (stop - first), end - start) for _, first, stop in pieces]
    left = quantity - sum(share for share, _ in shares)
    favoured = set(sorted(range(len(pieces)), key=lambda n: (-shares[n][1], n))[:left])
    return [(*piece, shares[n][0] + (n in favoured)) for n, piece in enumerate(pieces)]


def fitting(start: Point, end: Point, limit: int, step: int) -> Iterator[tuple[Point, Point, int]]:
    """(from, to, the limit times the whole microseconds in between): one, but of a limit whose hour is more than a record
    holds as many as it takes, each as long as a record holds.  Boot time places the instants in between.
    """
    at, begin = start, start.ns // 1000
    length = max(0, end.ns // 1000 - begin)
    if limit * length > LARGEST:
        at = start = believed(start, end, step)
    wall = max(1, end.at_us - start.at_us)
    if limit * length >= LARGEST and limit * length * min(HOUR_US, wall) >= LARGEST * wall:
        longest = LARGEST // limit
        for passed in range(longest, length, longest):
            cut = Point(min(start.at_us + passed, end.at_us), (begin + passed) * 1000)
            yield at, cut, limit * longest
            at = cut
    yield at, end, limit * (begin + length - at.ns // 1000)


class Life:
    """One epoch: its readings, and the records that they must have made."""

    def __init__(self, epoch: Data, readings: Iterable[Data]) -> None:
        self.epoch = epoch
        self.step = LONGEST_STEP_US
        self.readings: dict[tuple[str, int], Data] = {}
        self.repeated = [
            f"readings: {epoch['id']} has two of {one['meter']} numbered {one['sequence']}"
            for one in readings
            if self.readings.setdefault((one["meter"], one["sequence"]), one) is not one
        ]
        self.sequences = sorted({sequence for _, sequence in self.readings})

    def intervals(self, meter: str, base: int) -> Iterator[Interval]:
        """From each reading that counts to the next one, behind ``base``."""
        counted = [base]
        for sequence in self.sequences:
            if sequence <= base:
                continue
            if meter in LIMITS:
                counted.append(sequence)
                continue
            one = self.readings.get((meter, sequence))
            if one is not None and (one["reason"] == "gap" or (one["value"] is not None and not one["reason"])):
                counted.append(sequence)
        for start, end in pairwise(counted):
            yield Interval(meter, start, end)

    def check_none(self, meter: str, bundle: Bundle) -> Iterator[str]:
        """There are no records of it.  One that the kernel never told of is said to be missing at its end, in that month."""
        reasons = {one["reason"] for (of, _), one in self.readings.items() if of == meter}
        ended = self.epoch["ended_at"]
        if reasons != {"unavailable"} or (ended is not None and bundle.start <= us(ended) < bundle.end):
            yield f"records: {self.epoch['id']} has none of {meter}, not even one that says it is missing"

    def base(self, meter: str, start: int) -> int:
        """Where the meter's first interval begins: the epoch's own beginning, or the first reading here that counts."""
        if us(self.epoch["started_at"]) >= start or 1 in self.sequences:
            return 0
        first = next(self.intervals(meter, self.sequences[0] - 1), None) if self.sequences else None
        return 0 if first is None else first.end

    def point(self, meter: str, sequence: int) -> Point:
        """Raises KeyError: the reading is not there."""
        if sequence == 0:
            return Point(us(self.epoch["started_at"]), self.epoch["started_boottime_ns"])
        one = self.readings[meter if meter not in LIMITS else "cpu", sequence]
        return Point(us(one["placed_at"] or one["at"]), one["boottime_ns"], one["value"] or 0)

    def of_before(self) -> Life:
        """As records were made when a clock was believed however far it was set."""
        found = copy.copy(self)
        found.step = LARGEST
        return found

    def parts(self, interval: Interval) -> Iterator[Data]:
        """What the interval's records must say.  Raises KeyError.  ``old_id``: of a record from before ids began with the hour."""
        start, end = self.point(interval.meter, interval.start), self.point(interval.meter, interval.end)
        if interval.meter in LIMITS:
            for first, last, limit in self._pieces(interval.meter, start, end):
                for begin, stop, quantity in fitting(first, last, limit, self.step):
                    yield from self._divided(interval, begin, stop, quantity, "exact")
        else:
            yield from self._divided(interval, start, end, *self._quantity(interval, start, end))

    def _pieces(self, meter: str, start: Point, end: Point) -> Iterator[tuple[Point, Point, int]]:
        """The parts of an interval in which one limit held, with the limit."""
        limit, at = _limit(meter, self.epoch), start
        for size in self.epoch.get("sizes", []):
            cut = Point(min(max(us(size["at"]), believed(at, end, self.step).at_us), end.at_us), size["boottime_ns"])
            if cut.ns >= end.ns:
                break
            if cut.ns > at.ns:
                yield at, cut, limit
                at = cut
            limit = _limit(meter, size)
        yield at, end, limit

    def _divided(self, interval: Interval, start: Point, end: Point, quantity: int, quality: str) -> Iterator[Data]:
        if quality == "exact" and abs((end.at_us - start.at_us) - (end.ns - start.ns) // 1000) > 1_000_000:
            quality = "estimated"
        start = believed(start, end, self.step)
        found = split(quantity, start.at_us, end.at_us)
        if quality == "exact" and interval.meter in COUNTERS and len(found) > 1:
            quality = "estimated"
        for window, first, last, part in found:
            key = f"{self.epoch['id']}|{interval.meter}|{start.at_us}@{start.ns}|{end.at_us}@{end.ns}|{hour(window)}"
            whole = hashlib.sha256(key.encode()).hexdigest()
            id = "".join(one for one in hour(window) if one.isdigit()) + self.epoch["id"][-12:] + whole[:42]
            yield {"id": id, "old_id": whole, "window": window, "starts_at": first, "ends_at": last,
                   "quantity": part, "quality": quality}  # fmt: skip

    def _quantity(self, interval: Interval, start: Point, end: Point) -> tuple[int, str]:
        if interval.meter in COUNTERS:
            return end.value - (start.value if interval.start else 0), "exact"
        if interval.meter == "memory_used":
            gap = self.readings[interval.meter, interval.end]["reason"] == "gap"
            return (0, "missing") if gap else (end.value, "integrated")
        raise ValueError(f"no meter is called {interval.meter}")


def _limit(meter: str, of: Data) -> int:
    """Of an epoch's beginning, or from a change on."""
    return int(of["cpu_millis"]) if meter == "cpu_limit" else int(of["memory_bytes"]) // 1024


def check_sizes(bundle: Bundle) -> Iterator[str]:
    """Changes of an epoch's limits are in order, and none is charged from before it was made."""
    for epoch in bundle.rows("epochs"):
        sizes = epoch.get("sizes", [])
        for size in sizes:
            if size["boottime_ns"] < size["told_boottime_ns"]:
                yield f"epochs: {epoch['id']} has new limits from before {size['at']}, when they were given"
        for before, after in pairwise(sizes):
            if after["told_boottime_ns"] <= before["told_boottime_ns"] or after["boottime_ns"] < before["boottime_ns"]:
                yield f"epochs: {epoch['id']} has its changes of limits out of order at {after['at']}"


def check_records(index: Index) -> Iterator[str]:
    bundle = index.bundle
    index.take_sources()
    index.take_readings()
    index.take_records()
    yield from _check_whose(index)
    readings, records = index.by_source("readings"), index.by_source("records")
    number = -1
    for number, epoch in enumerate(bundle.rows("epochs")):
        read, counted = readings.of(number), records.of(number)
        if epoch["generation"] >= 2:
            yield from _check_life(bundle, Life(epoch, read), counted)
    for of, allocation in enumerate(bundle.rows("allocations"), number + 1):
        held = records.of(of)
        yield from _check_held(allocation, held)
        yield from _check_whole(bundle, allocation, held)
    for source in index.strangers():
        yield f"records: {source} has records and is neither an epoch nor an allocation of this export"


def _check_whose(index: Index) -> Iterator[str]:
    """Each record is of the container or volume whose life, or holding, it comes from."""
    for id, whose, billed in index.of_others():
        yield f"records: {id} is of {whose}, and billed to {billed}"


def _check_life(bundle: Bundle, life: Life, records: list[Data]) -> Iterator[str]:
    yield from life.repeated
    by_id = {one["id"]: one for one in records}
    if len(by_id) < len(records):
        yield f"records: {life.epoch['id']} has one twice"
    expected: set[str] = set()
    for meter in (*COUNTERS, *LIMITS, "memory_used"):
        mine = [one for one in records if one["meter"] == meter]
        if not mine:
            yield from life.check_none(meter, bundle)
            continue
        for interval in life.intervals(meter, life.base(meter, bundle.start)):
            try:
                parts = _parts(life, interval, by_id)
            except KeyError:
                yield f"readings: {life.epoch['id']} lacks {meter} {interval.start} or {interval.end}"
                continue
            for part in parts:
                found = [by_id[id] for id in (part["id"], part["old_id"]) if id in by_id]
                expected.update(one["id"] for one in found)
                if len(found) > 1:
                    yield f"records: {life.epoch['id']} has one twice, by an older id too: {part['old_id']}"
                yield from _check_part(bundle, life, interval, part, found[0] if found else None)
    for one in records:
        if one["to_sequence"] is None:
            if one["quality"] != "missing" or one["quantity"]:
                yield f"records: {one['id']} ends at no reading and yet says {one['quantity']}"
        elif one["id"] not in expected:
            yield f"records: {one['id']} ({one['meter']}, {one['window']}) follows from no readings"


def _parts(life: Life, interval: Interval, by_id: Mapping[str, Data]) -> list[Data]:
    """By the rules that its records were made by.  Raises KeyError."""
    for of in (life, life.of_before()):
        parts = list(of.parts(interval))
        if any(id in by_id for part in parts for id in (part["id"], part["old_id"])):
            return parts
    return list(life.parts(interval))


def _check_part(bundle: Bundle, life: Life, interval: Interval, part: Data, found: Data | None) -> Iterator[str]:
    what = f"{life.epoch['id']} {interval.meter} {hour(part['window'])}, readings {interval.start} to {interval.end}"
    if found is None:
        if bundle.start <= part["window"] < bundle.end:
            yield f"records: {what}: there is none, and it should say {part['quantity']}"
        return
    for name in ("window", "starts_at", "ends_at"):
        if us(found[name]) != part[name]:
            yield f"records: {what}: {name} is {found[name]}"
    for name, said in (("meter", interval.meter), ("from_sequence", interval.start), ("to_sequence", interval.end)):
        if found[name] != said:
            yield f"records: {what}: {name} is {found[name]}"
    for name in ("quantity", "quality"):
        if found[name] != part[name]:
            yield f"records: {what}: {name} is {found[name]}, and from the readings {part[name]}"


def _check_held(allocation: Data, records: list[Data]) -> Iterator[str]:
    for one in records:
        start, end = us(one["starts_at"]), us(one["ends_at"])
        inside = us(allocation["started_at"]) <= start and (
            allocation["ended_at"] is None or end <= us(allocation["ended_at"])
        )
        if not inside or one["quantity"] != allocation["amount"] * (end - start):
            yield f"records: {one['id']} is not {allocation['amount']} held from {one['starts_at']} to {one['ends_at']}"
        if one["meter"] != allocation["meter"] or us(one["window"]) != start - start % HOUR_US:
            yield f"records: {one['id']} is not of {allocation['meter']} in the hour of {one['starts_at']}"
    ordered = sorted(records, key=lambda one: str(one["starts_at"]))
    for before, after in pairwise(ordered):
        if before["ends_at"] != after["starts_at"]:
            yield f"records: {allocation['id']} has a hole or an overlap at {before['ends_at']}"


def _check_whole(bundle: Bundle, allocation: Data, records: list[Data]) -> Iterator[str]:
    """Its records reach from its beginning to its end, or those of the month.  Of an open month the end is not known yet."""
    within = [one for one in records if bundle.start <= us(one["window"]) < bundle.end]
    first = max(us(allocation["started_at"]), bundle.start)
    last = bundle.end if allocation["ended_at"] is None else min(us(allocation["ended_at"]), bundle.end)
    known = allocation["ended_at"] is not None or bundle.bill["period"]["state"] == "closed"
    if not within:
        if known and first < last:
            yield f"records: {allocation['id']} has none of what was held from {_text(first)} to {_text(last)}"
        return
    begin, end = min(us(one["starts_at"]) for one in within), max(us(one["ends_at"]) for one in within)
    if begin != first:
        yield f"records: {allocation['id']} is held from {_text(first)}, and its records begin at {_text(begin)}"
    if known and end != last:
        yield f"records: {allocation['id']} is held until {_text(last)}, and its records end at {_text(end)}"


# ------------------------------------------------------------------------------------------------ lines


class Book:
    def __init__(self, one: Data) -> None:
        self.name = one["name"]
        self.valid_from = us(one["book"]["valid_from"])
        self.order = (self.valid_from, one["book"]["version"])
        self.contract = one["book"]["tenant"] is not None
        self.prices = {price["meter"]: price for price in one["book"]["prices"]}

    def steps(self, meter: str) -> list[tuple[int, str, Decimal]]:
        price = self.prices[meter]
        size = Decimal(price["base_units"])
        included = int(EXACT.multiply(Decimal(price["included"]), size))
        found = [(0, "i", Decimal(0))] if included else []
        for number, (start, each) in enumerate(price["tiers"]):
            found.append((included + int(EXACT.multiply(Decimal(start), size)), str(number), Decimal(each)))
        return found


def in_force(books: Sequence[Book], meter: str, at: int, *, contract: bool) -> Book | None:
    held = [book for book in books if book.contract == contract and book.valid_from <= at]
    last = max(held, key=lambda book: book.order, default=None)
    return last if last is not None and meter in last.prices else None


def hours(
    indexes: Iterable[Index], start: int, end: int, meters: Container[str] | None = None
) -> Iterator[tuple[int, str, str, int, str]]:
    """(hour, resource, meter, quantity, the least quality), in the order in which they are rated."""
    used = heapq.merge(*(one.used(start, end, meters) for one in indexes), key=itemgetter(0, 1, 2))
    for (window, resource, meter), some in groupby(used, key=itemgetter(0, 1, 2)):
        quantity = quality = 0
        for *_, part, number in some:
            quantity, quality = quantity + part, max(quality, number)
        yield window, resource, meter, quantity, QUALITIES[quality]


def rate(used: Iterable[tuple[int, str, str, int, str]], books: Sequence[Book]) -> Iterator[Data]:
    reached: dict[str, int] = defaultdict(int)
    for window, resource, meter, quantity, quality in used:
        listed = in_force(books, meter, window, contract=False)
        if listed is None:
            continue
        price = listed.prices[meter]
        agreed = in_force(books, meter, window, contract=True) or listed
        if (agreed.prices[meter]["sku"], agreed.prices[meter]["unit"]) != (price["sku"], price["unit"]):
            agreed = listed
        begin = reached[price["sku"]]
        end = reached[price["sku"]] = begin + quantity
        ours, theirs = agreed.steps(meter), listed.steps(meter)
        edges = sorted({begin, end, *(step[0] for step in (*ours, *theirs) if begin < step[0] < end)})
        for first, last in pairwise(edges):
            tier, each = [step[1:] for step in ours if step[0] <= first][-1]
            list_tier, list_each = [step[1:] for step in theirs if step[0] <= first][-1]
            units = EXACT.divide(Decimal(last - first), Decimal(price["base_units"]))
            yield {
                "window": window, "resource": resource, "meter": meter, "sku": price["sku"], "book": agreed.name,
                "list_book": listed.name, "tier": f"{tier}/{list_tier}", "unit": price["unit"], "quantity": last - first,
                "pricing_quantity": plain(units), "list_unit_price": plain(list_each), "unit_price": plain(each),
                "list_cost": plain(EXACT.multiply(units, list_each)), "cost": plain(EXACT.multiply(units, each)),
                "quality": quality,
            }  # fmt: skip


def check_lines(index: Index, earlier: Sequence[Bundle]) -> Iterator[str]:
    bundle = index.bundle
    books = [Book(one) for one in bundle.rows("prices")]
    expected = rate(hours([index], bundle.start, bundle.end), books)
    count = made = 0
    for line in bundle.rows("lines"):
        if line["correction"]:
            continue
        count += 1
        wanted = next(expected, None)
        if wanted is None:
            continue
        made += 1
        for name, value in wanted.items():
            said = us(line[name]) if name == "window" else line[name]
            if said != value:
                yield f"lines: number {line['number']} ({line['sku']}, {line['window']}): {name} is {line[name]}, and should be {value}"
    made += sum(1 for _ in expected)
    if count != made:
        yield f"lines: there are {count}, and the records make {made}"
    yield from _check_corrections(index, earlier, books)


def _check_corrections(index: Index, earlier: Sequence[Bundle], books: Sequence[Book]) -> Iterator[str]:
    bundle = index.bundle
    index.take_lines((at, one) for at, one in bundle.placed("lines") if one["correction"])
    late = index.windows_before(bundle.start)
    before = sorted((one for one in earlier if one.start < bundle.start), key=lambda one: one.start)
    followed = 0
    with ExitStack() as opened:
        old = [opened.enter_context(Index(one)) for one in before] if late else []
        for one in old:
            one.take_records()
            one.take_lines(one.bundle.placed("lines"))
        while late and _covered(late[0], before):
            start, end = _month(late[0])
            late = [at for at in late if at >= end]
            meters = index.meters(start, end)
            rated = rate(hours([*old, index], start, end, meters), books)
            for (at, resource), some in groupby(rated, key=itemgetter("window", "resource")):
                window = _text(at)
                anew = _summed({**line, "window": window} for line in some)
                billed = _summed(line for one in old for line in one.lines(window, resource) if line["meter"] in meters)
                said = _summed(index.lines(window, resource))
                for key in sorted(anew):
                    was = billed.get(key, NOTHING)
                    wanted = (
                        anew[key][0] - was[0],
                        EXACT.subtract(anew[key][1], was[1]),
                        EXACT.subtract(anew[key][2], was[2]),
                    )
                    told = said.get(key, NOTHING)
                    followed += key in said
                    if told != wanted:
                        yield f"corrections: {key}: {_amounts(told)}, and should be {_amounts(wanted)}"
    if late:
        yield f"corrections: they are of a period that starts by {hour(late[0])}: give its export too, by --with"
    elif left := index.count_of_lines() - followed:
        yield f"corrections: {left} of them follow from no records"


def _covered(at_us: int, before: Sequence[Bundle]) -> bool:
    """The month's export is given, or the bills on either side of it, which are chained: then there is no bill of that month."""
    if any(one.start <= at_us < one.end for one in before):
        return True
    sooner = next((one.sha256 for one in reversed(before) if one.end <= at_us), "")
    later = next((one for one in before if one.start > at_us), None)
    return later is not None and later.bill["period"]["state"] == "closed" and later.bill["previous"] == sooner


def _month(at_us: int) -> tuple[int, int]:
    """Its first moment and the next one's."""
    first = (EPOCH + dt.timedelta(microseconds=at_us)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ends = (first + dt.timedelta(days=32)).replace(day=1)
    return (first - EPOCH) // dt.timedelta(microseconds=1), (ends - EPOCH) // dt.timedelta(microseconds=1)


def _text(at_us: int) -> str:
    return (EPOCH + dt.timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Sums = tuple[int, Decimal, Decimal]
"""Quantity, cost, and cost by the list."""
NOTHING: Sums = (0, Decimal(0), Decimal(0))


def _summed(lines: Iterable[Data]) -> dict[tuple[str, str, str], Sums]:
    found: dict[tuple[str, str, str], Sums] = {}
    for one in lines:
        key = (one["window"], one["resource"], one["sku"])
        quantity, cost, listed = found.get(key, NOTHING)
        found[key] = (
            quantity + one["quantity"], EXACT.add(cost, Decimal(one["cost"])), EXACT.add(listed, Decimal(one["list_cost"])),
        )  # fmt: skip
    return found


def _amounts(sums: Sums) -> str:
    return f"{sums[0]} for {plain(sums[1])} (by the list {plain(sums[2])})"


# ------------------------------------------------------------------------------------------------ sums


def check_sums(index: Index) -> Iterator[str]:
    bundle = index.bundle
    said = bundle.bill["invoice"]
    charges = _total(one["cost"] for one in bundle.rows("lines"))
    credits_given = _total(one["amount"] for one in bundle.rows("credits"))
    due = EXACT.subtract(charges, credits_given)
    wanted = {"charges": charges, "credits": credits_given, "payable": due, "adjustment": Decimal(0)}
    if said["number"] and said["currency"]:
        digits = 0 if said["currency"] in NO_DIGITS else 3 if said["currency"] in THREE_DIGITS else 2
        wanted["payable"] = due.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN, WIDE)
        wanted["adjustment"] = EXACT.subtract(wanted["payable"], due)
    for name, value in wanted.items():
        if Decimal(said[name]) != value:
            yield f"invoice: {name} is {said[name]}, and should be {plain(value)}"
    for version in ("1.2", "1.3"):
        yield from _check_focus(index, version, wanted["payable"])
    yield from _check_invoice_detail(bundle, wanted["payable"])


def _check_focus(index: Index, version: str, payable: Decimal) -> Iterator[str]:
    """A row for each line, then for each credit, then for the rounding."""
    name = f"focus-{version}.csv"
    total, expected = Decimal(0), _focus_rows(index)
    with (index.bundle.folder / name).open(encoding="utf-8", newline="") as handle:
        for number, row in enumerate(csv.DictReader(handle), 2):
            total = EXACT.add(total, Decimal(row["BilledCost"]))
            wanted = next(expected, None)
            if wanted is None:
                yield f"{name}: row {number}: it follows from no line and no credit, and is no rounding"
                continue
            for column, value in wanted.items():
                if (not row[column] or row[column] != value) and _of_cell(row[column], value) != value:
                    yield f"{name}: row {number}: {column} is {row[column]}, and by the evidence {_told(value)}"
    if left := sum(1 for _ in expected):
        yield f"{name}: {left} lines, credits or roundings have no row"
    if total != payable:
        yield f"{name}: BilledCost sums to {plain(total)}, and {plain(payable)} is payable"


def _focus_rows(index: Index) -> Iterator[dict[str, Any]]:
    """What the other files say of each row, by column: text, a Decimal, a moment in microseconds, or None for null."""
    bundle = index.bundle
    said = bundle.bill["invoice"]
    common = {
        "BillingAccountId": bundle.bill["tenant"]["id"], "BillingCurrency": said["currency"], "InvoiceId": said["number"] or None,
        "BillingPeriodStart": bundle.start, "BillingPeriodEnd": bundle.end, "PricingCurrency": said["currency"],
    }  # fmt: skip
    for line in bundle.rows("lines"):
        yield common | _focus_usage(line, index.resource(line["resource"]))
    others = [("Credit", -Decimal(one["amount"]), one["reason"]) for one in bundle.rows("credits")]
    if adjustment := Decimal(said["adjustment"]):
        others.append(("Adjustment", adjustment, "Rounding of the invoice to the currency's smallest unit"))
    costs = ("BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "PricingCurrencyEffectiveCost")
    for category, amount, description in others:
        yield common | dict.fromkeys(OF_USAGE) | dict.fromkeys(costs, amount) | {
            "ChargeCategory": category, "ChargeClass": None, "ChargeDescription": description, "Tags": "{}",
            "ChargePeriodStart": bundle.start, "ChargePeriodEnd": bundle.end,
        }  # fmt: skip


def _focus_usage(line: Data, resource: Data) -> dict[str, Any]:
    cost, quantity = Decimal(line["cost"]), Decimal(line["pricing_quantity"])
    prices = [None if line[name] is None else Decimal(line[name]) for name in ("list_unit_price", "unit_price")]
    window, tier = us(line["window"]), line["tier"].rpartition("/")[2]
    return {
        "ChargeCategory": "Usage", "ChargeClass": "Correction" if line["correction"] else None,
        "BilledCost": cost, "EffectiveCost": cost, "ContractedCost": cost, "ListCost": Decimal(line["list_cost"]),
        "ListUnitPrice": prices[0], "ContractedUnitPrice": prices[1],
        "PricingQuantity": quantity, "PricingUnit": line["unit"], "ConsumedQuantity": quantity, "ConsumedUnit": line["unit"],
        "ChargePeriodStart": window, "ChargePeriodEnd": window + HOUR_US, "SkuId": line["sku"],
        "ResourceId": resource.get("identity"), "ResourceName": resource.get("name"), "SubAccountId": resource.get("tenant"),
        "Tags": json.dumps(resource.get("labels", {}), sort_keys=True), "ResourceType": TYPES.get(resource.get("kind", "")),
        "RegionId": resource.get("node"), "RegionName": resource.get("node"), "x_Image": resource.get("image") or None,
        "SubAccountName": resource.get("tenant_name"), "BillingAccountName": resource.get("tenant_name"),
        "SkuPriceId": f"{line['sku']}-{tier}" if tier else None, "x_PriceBook": line["book"], "x_Tier": line["tier"] or None,
        "SkuPriceDetails": json.dumps({"x_Tier": tier}) if tier else None, "x_Quality": line["quality"],
        "PricingCurrencyEffectiveCost": cost, "PricingCurrencyListUnitPrice": prices[0],
        "PricingCurrencyContractedUnitPrice": prices[1],
    }  # fmt: skip


def _of_cell(cell: str, like: Any) -> Any:
    if not cell:
        return None
    return Decimal(cell) if isinstance(like, Decimal) else us(cell) if isinstance(like, int) else cell


def _told(value: Any) -> str:
    return plain(value) if isinstance(value, Decimal) else hour(value) if isinstance(value, int) else str(value)


def _check_invoice_detail(bundle: Bundle, payable: Decimal) -> Iterator[str]:
    """Bundles of earlier versions have none; one that has no number has no invoice."""
    name = "focus-1.4-invoice-detail.csv"
    if not (bundle.folder / name).exists():
        return
    with (bundle.folder / name).open(encoding="utf-8", newline="") as handle:
        found = list(csv.DictReader(handle))
    total = _total(row["BilledCost"] for row in found)
    said, wanted = bundle.bill["invoice"], payable if bundle.bill["invoice"]["number"] else Decimal(0)
    if total != wanted:
        yield f"{name}: BilledCost sums to {plain(total)}, and {plain(wanted)} is invoiced"
    expected = _invoice_rows(bundle) if said["number"] else {}
    whose = (said["number"], bundle.bill["tenant"]["id"], said["currency"], bundle.start, bundle.end)
    for number, row in enumerate(found, 2):
        of = (
            row["InvoiceId"], row["BillingAccountId"], row["BillingCurrency"], us(row["BillingPeriodStart"]),
            us(row["BillingPeriodEnd"]),
        )  # fmt: skip
        sums = expected.pop(_grain(row), None)
        told = tuple(Decimal(row[column] or 0) for column in ("BilledCost", "x_ListCost", "x_PricingQuantity"))
        if sums != told or of != whose:
            yield f"{name}: row {number} does not follow from the lines, the credits and the rounding of this invoice"
    if expected:
        yield f"{name}: {len(expected)} sums of the invoice have no row"


Grain = tuple[str, ...]


def _grain(row: Mapping[str, str]) -> Grain:
    """What an invoice's row is the sum of.  Raises ValueError."""
    said = json.loads(row["InvoiceDetailGrain"])
    names = ("SkuId", "x_Tier", "x_CorrectedPeriodStart", "x_CreditKey")
    prices = (_price(row["x_UnitPrice"]), _price(row["x_ListUnitPrice"]))
    of = said.get("x_UnitPrice"), said.get("x_ListUnitPrice")
    if prices != tuple(_price(one or "") for one in of) or (row["x_PricingUnit"] or None) != said.get("x_PricingUnit"):
        return ("?",)
    return (row["ChargeCategory"], *(str(said.get(name, "")) for name in names), *prices, row["x_PricingUnit"])


def _price(text: str) -> str:
    return plain(Decimal(text)) if text else ""


def _invoice_rows(bundle: Bundle) -> dict[Grain, tuple[Decimal, ...]]:
    """Cost, cost by the list and quantity of each."""
    found: dict[Grain, tuple[Decimal, ...]] = {}
    for line in bundle.rows("lines"):
        month = ""
        if line["correction"]:
            month = (EPOCH + dt.timedelta(microseconds=_month(us(line["window"]))[0])).strftime("%Y-%m-%dT%H:%M:%SZ")
        prices = [line[name] or "" for name in ("unit_price", "list_unit_price")]
        key = ("Usage", line["sku"], line["tier"], month, "", *prices, line["unit"])
        parts = (line["cost"], line["list_cost"], line["pricing_quantity"])
        sums = found.get(key, (Decimal(0),) * 3)
        found[key] = tuple(EXACT.add(sum, Decimal(part)) for sum, part in zip(sums, parts, strict=True))
    for one in bundle.rows("credits"):
        found["Credit", "", "", "", one["key"], "", "", ""] = (*[-Decimal(one["amount"])] * 2, Decimal(0))
    if adjustment := Decimal(bundle.bill["invoice"]["adjustment"]):
        found["Adjustment", "", "", "", "", "", "", ""] = (adjustment, adjustment, Decimal(0))
    return found


def _total(amounts: Iterable[str]) -> Decimal:
    found = Decimal(0)
    for amount in amounts:
        found = EXACT.add(found, Decimal(amount))
    return found


def check_chain(bundle: Bundle, earlier: Sequence[Bundle], given: str) -> Iterator[str]:
    if given and bundle.sha256 != given:
        yield f"bill: its hash is {bundle.sha256}, and not the given one"
    chain = sorted((*(one for one in earlier if one.start < bundle.start), bundle), key=lambda one: one.start)
    for before, after in pairwise(chain):
        yield from (f"{before.folder}: {one}" for one in _check_streams(before))
        if before.end == after.start and after.bill["previous"] != before.sha256:
            what = "bill: it" if after is bundle else f"{after.folder}: bill: it"
            yield f"{what} follows another bill than the one in {before.folder}"


def verify(bundle: Bundle, earlier: Sequence[Bundle] = (), given: str = "") -> list[str]:
    """Every difference, as a sentence that begins with where it is.  None: the bill is right."""
    return list(differences(bundle, earlier, given))


def differences(bundle: Bundle, earlier: Sequence[Bundle], given: str) -> Iterator[str]:
    yield from check_files(bundle)
    yield from check_chain(bundle, earlier, given)
    yield from check_prices(bundle)
    yield from check_price_list(bundle)
    yield from check_sizes(bundle)
    with Index(bundle) as index:
        yield from check_records(index)
        yield from check_lines(index, earlier)
        yield from check_sums(index)


def main(arguments: Sequence[str] | None = None) -> int:
    top = argparse.ArgumentParser(prog="verify_bill.py", description="Recompute a bill and name every difference.")
    top.add_argument("folder", type=Path)
    top.add_argument("--with", dest="earlier", type=Path, action="append", default=[], metavar="FOLDER")
    top.add_argument("--sha256", default="", help="The invoice's hash, as the console shows it.")
    chosen = top.parse_args(arguments)
    try:
        bundle, earlier = Bundle.read(chosen.folder), [Bundle.read(folder) for folder in chosen.earlier]
        count = 0
        for difference in differences(bundle, earlier, chosen.sha256):
            print(difference)
            count += 1
        old = sum(epoch["generation"] < 2 for epoch in bundle.rows("epochs"))
    except BrokenPipeError:
        raise
    except sqlite3.OperationalError as fault:
        print(f"There is no room for temporary files: {fault}. SQLITE_TMPDIR may name another folder.", file=sys.stderr)
        return 2
    except NO_EXPORT as fault:
        print(f"This is no whole export: {type(fault).__name__}: {fault}", file=sys.stderr)
        return 2
    if old:
        print(f"Not recomputed: the records of {old} starts from before readings were kept in this form.")
    invoice = bundle.bill["invoice"]
    counted = ", ".join(f"{bundle.counts[name]} {name}" for name in ("readings", "records", "lines"))
    print(f"{counted}; {invoice['payable']} {invoice['currency']}; sha256 {bundle.sha256}")
    right = "All else" if old else "Everything"
    print(f"{count} differences" if count else f"{right} follows from the readings and the prices.")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
