"""Looks at an epoch's counters into stored readings and charges.  Pure: integers in, integers out; it knows no database.

The first look at an epoch is measured against zero at its start, each later one against the mark that the meter is charged up
to.  So the charges of a meter sum to its last value, whichever looks were lost in between.  Intervals are measured by boot time,
which no change of the clock bends; wall time places them, and never goes back within an epoch, so no two charges overlap.  Only a
clock that was set by more than a day is believed anew: what was used meanwhile lies just before the reading that has the new time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from console.metering.models.usage import Meter, Quality
from console.metering.sizes import Piece, Size, learned, pieces
from console.metering.splitting import LARGEST, hour_of, stretches

COUNTERS: Mapping[Meter, str] = {
    Meter.CPU: "cpu_ns",
    Meter.BLOCK_READ: "block_read_bytes",
    Meter.BLOCK_WRITE: "block_write_bytes",
    Meter.NET_RX: "net_rx_bytes",
    Meter.NET_TX: "net_tx_bytes",
}
"""Meter -> its field of ``runtime.api.Counters``."""
GAUGE = "memory_bytes"
KIB = 1024
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
CLOCK_TOLERANCE_US = 1_000_000
LONGEST_STEP_US = 24 * 3_600_000_000
"""By so much a clock may be set between two readings that are still believed both."""
LONGEST_UNREAD_US = 366 * LONGEST_STEP_US
"""Of a start whose end nobody read; where it is longer the clock was set meanwhile, and each meter is missing at the end alone."""
GONE = -1
"""The boot time of an end that nobody read."""
UNAVAILABLE, ANOMALY, GAP = "unavailable", "anomaly", "gap"
LONGEST_GAP_US = 3_600_000_000
"""Between two gauges: memory over a longer time is nobody's to say, and is missing; so is more than a reading holds."""


@lru_cache(4096)
def moment(us: int) -> dt.datetime:
    return EPOCH + us * MICROSECOND


def microseconds(at: dt.datetime) -> int:
    return (at - EPOCH) // MICROSECOND


class Mark(NamedTuple):
    """Up to where a meter is charged."""

    value: int
    at_us: int
    """Placed: never before an earlier mark's, but where the clock was set back by more than a day."""
    ns: int
    sequence: int = 0
    """Of the reading; 0 for the epoch's start."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look.  ``values`` are counters by meter, None where the kernel does not say; ``gauge`` is memory in bytes."""

    at_us: int
    ns: int
    values: Mapping[str, int | None]
    gauge: int | None
    stored: bool = False
    known: tuple[int, int] | None = None
    """The last gauge that was known and its boot time."""
    integral: int = 0
    """Of the gauge in KiB-microseconds, since the last stored reading of memory."""
    gap: bool = False
    """The gauge before this one is too old to integrate from."""


class Said(NamedTuple):
    """A reading to store."""

    meter: Meter
    sequence: int
    at_us: int
    placed_us: int
    ns: int
    value: int | None
    final: bool
    reason: str = ""


class Charge(NamedTuple):
    meter: Meter
    quantity: int
    start: Mark
    end: Mark
    quality: Quality
    stepped: bool
    """The clock was set in between: where the quantity belongs is an estimate."""


@dataclass(slots=True)
class Measure:
    """One epoch.  ``look`` and ``end`` collect into ``said`` and ``charges``; the rest is the state to keep."""

    started_us: int
    rates: Mapping[Meter, int]
    """The limits that it began with: so much of the meter's unit each microsecond."""
    started_ns: int | None = None
    """Boot time of the start.  Where the engine did not tell it, the first look says, see :meth:`_start_ns`."""
    sequence: int = 0
    marks: dict[str, Mark] = field(default_factory=dict)
    latest: Seen | None = None
    sizes: list[Size] = field(default_factory=list)
    """How the limits changed since."""
    said: list[Said] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)

    def learn(self, told: Iterable[Size]) -> None:
        """Of changes of the limits, before the look that tells of them is taken; those that are known already change nothing."""
        charged = max((mark.ns for meter, mark in self.marks.items() if meter in self.rates), default=0)
        self.sizes = learned(self.sizes, told, charged)

    def look(self, seen: Seen) -> bool:
        """False: not after the last one, so a replay, and nothing changes."""
        if self.latest is not None and seen.ns <= self.latest.ns:
            return False
        before = self.latest
        seen = self._integrated(seen)
        if before is None:
            self._store(seen)
        elif self._odd(before, seen) or hour_of(moment(before.at_us)) != hour_of(moment(seen.at_us)):
            self._store_latest()
            self._store(self._integrated(_bare(seen)))
        else:
            self.latest = seen
        return True

    def finish(self, seen: Seen) -> None:
        """The final reading; a meter that it does not give is missing from its mark on.

        A look may have been taken just behind it, before the end was known: what the kernel sent meanwhile for a network that was
        not gone yet is in the look, which is charged, and is no step back.
        """
        if self.latest is not None and seen.ns < self.latest.ns:
            seen = Seen(seen.at_us, self.latest.ns, _furthest(seen.values, self.latest.values), seen.gauge)
        crossed = self.latest is not None and hour_of(moment(self.latest.at_us)) != hour_of(moment(seen.at_us))
        if self.latest is not None and (crossed or self._odd(self.latest, self._integrated(seen))):
            self._store_latest()
        self._store(self._integrated(seen), final=True)
        self._declare_missing(self.place(seen.at_us), seen.ns)

    def lose(self, end_us: int) -> None:
        """No final reading will come: charged up to the last look, missing from there to ``end_us``."""
        self._store_latest()
        self._declare_missing(self.place(end_us), None)

    def _odd(self, before: Seen, seen: Seen) -> bool:
        """A counter that went back, a meter that fell silent or speaks again, or as much memory as a reading holds: both looks are stored."""
        if seen.gap or seen.integral > LARGEST:
            return True
        for meter in COUNTERS:
            was, now = before.values.get(meter), seen.values.get(meter)
            charged = self.marks[meter].value if meter in self.marks else 0
            if (was is None) != (now is None) or (now is not None and now < max(was or 0, charged)):
                return True
        return False

    def _integrated(self, seen: Seen) -> Seen:
        """With the integral of memory by trapezoids: the mean of two gauges times the time between them."""
        before = self.latest
        start_ns = self._start_ns(seen)
        known = before.known if before is not None else (0, start_ns)
        integral = before.integral if before is not None else 0
        gap = False
        if seen.gauge is not None:
            gauge, ns = known if known is not None else (seen.gauge, seen.ns)
            elapsed_us = max(0, seen.ns // 1000 - ns // 1000)
            grown = (gauge + seen.gauge) // KIB * elapsed_us // 2
            begun = integral if before is not None and before.stored else 0
            gap = elapsed_us > LONGEST_GAP_US or begun + grown > LARGEST
            integral += 0 if gap else grown
            known = (seen.gauge, seen.ns)
        return Seen(seen.at_us, seen.ns, seen.values, seen.gauge, False, known, integral, gap)

    def _store_latest(self) -> None:
        if self.latest is not None and not self.latest.stored:
            self._store(self.latest)

    def _store(self, seen: Seen, *, final: bool = False) -> None:
        self.sequence += 1
        at_us = self.place(seen.at_us)
        here = Mark(0, at_us, seen.ns, self.sequence)

        def say(meter: Meter, value: int | None, reason: str = "") -> None:
            self.said.append(Said(meter, self.sequence, seen.at_us, at_us, seen.ns, value, final, reason))

        for meter in COUNTERS:
            value, mark = seen.values.get(meter), self._mark(meter, seen)
            if value is None:
                say(meter, None, UNAVAILABLE)
            elif value < mark.value:
                say(meter, value, ANOMALY)  # the mark stays: nothing is charged twice
            else:
                say(meter, value)
                self._charge(meter, value - mark.value, mark, Mark(value, at_us, seen.ns, self.sequence), Quality.EXACT)
        for meter in self.rates:
            self._charge_limit(meter, self._mark(meter, seen), here)
        integral = seen.integral
        if seen.gauge is None:
            say(Meter.MEMORY_USED, None, UNAVAILABLE)
        else:
            say(Meter.MEMORY_USED, None if seen.gap else integral, GAP if seen.gap else "")
            mark, quality = self._mark(Meter.MEMORY_USED, seen), Quality.MISSING if seen.gap else Quality.INTEGRATED
            self._charge(Meter.MEMORY_USED, 0 if seen.gap else integral, mark, here, quality)
            integral = 0
        self.latest = Seen(seen.at_us, seen.ns, seen.values, seen.gauge, True, seen.known, integral)

    def _charge_limit(self, meter: Meter, mark: Mark, here: Mark) -> None:
        """A charge for each size that held in between; all of them lie between the same two readings."""
        for piece in pieces(meter, self.rates[meter], self.sizes, mark.ns, here.ns):
            end = here if piece.end_us is None else Mark(
                0, min(max(piece.end_us, believed(mark, here).at_us), here.at_us), piece.end_ns, here.sequence
            )  # fmt: skip
            if (quantity := piece.quantity) > LARGEST:
                self._charge_large(meter, piece, mark, end)
            else:
                self._charge(meter, quantity, mark, end, Quality.EXACT)
            mark = Mark(0, end.at_us, end.ns, mark.sequence)

    def _charge_large(self, meter: Meter, piece: Piece, mark: Mark, end: Mark) -> None:
        """In stretches of which each fits a record; boot time places the instants in between."""
        begin, length = piece.start_ns // 1000, piece.end_ns // 1000 - piece.start_ns // 1000
        mark = believed(mark, end)
        at_us = mark.at_us
        for first, last in stretches(piece.rate, length, end.at_us - at_us):
            between = Mark(0, min(at_us + last, end.at_us), (begin + last) * 1000, end.sequence)
            now = end if last == length else between
            self._charge(meter, piece.rate * (last - first), mark, now, Quality.EXACT)
            mark = Mark(0, now.at_us, now.ns, mark.sequence)

    def _charge(self, meter: Meter, quantity: int, mark: Mark, now: Mark, quality: Quality) -> None:
        wall, boot = now.at_us - mark.at_us, (now.ns - mark.ns) // 1000
        stepped = abs(wall - boot) > CLOCK_TOLERANCE_US
        self.charges.append(Charge(meter, quantity, believed(mark, now), now, quality, stepped))
        self.marks[meter] = now

    def _declare_missing(self, end_us: int, ns: int | None) -> None:
        """``ns``: boot time of the end; None: nobody read it."""
        for meter in (*COUNTERS, *self.rates, Meter.MEMORY_USED):
            mark = self.marks.get(meter) or Mark(0, self.started_us, self.started_ns or 0)
            wanted = mark.at_us < end_us or meter not in self.marks
            if ns is not None:
                mark = believed(mark, Mark(0, end_us, ns))
                wanted = wanted or mark.at_us < end_us
            elif end_us - mark.at_us > LONGEST_UNREAD_US:
                mark = mark._replace(at_us=end_us)
            if wanted:
                end = Mark(mark.value, max(end_us, mark.at_us), GONE, mark.sequence)
                self.charges.append(Charge(meter, 0, mark, end, Quality.MISSING, False))

    def _mark(self, meter: Meter, seen: Seen) -> Mark:
        return self.marks.get(meter) or Mark(0, self.started_us, self._start_ns(seen))

    def _start_ns(self, seen: Seen) -> int:
        """The boot time of the epoch's beginning.  Of an old start there is only the wall clock's distance, which may have been set since;
        no start is from before the boot.
        """
        if self.started_ns is None:
            self.started_ns = max(0, seen.ns - max(0, seen.at_us - self.started_us) * 1000)
        return self.started_ns

    def place(self, at_us: int) -> int:
        """Not before the last reading that was stored.  An end is placed, too, before it is taken: where the clock was set back it would
        lie in a month that is closed, and be news in what that was made from.
        """
        last = max(self.marks.values(), key=lambda mark: mark.sequence, default=Mark(0, self.started_us, 0))
        return at_us if last.at_us - at_us > LONGEST_STEP_US else max(at_us, last.at_us)


def believed(start: Mark, end: Mark) -> Mark:
    """``start``, or where the clock was set by more than a day before ``end``, that moment by the clock of the end."""
    boot_us = max(0, end.ns // 1000 - start.ns // 1000)
    known = abs(end.at_us - start.at_us - boot_us) <= LONGEST_STEP_US
    return start if known else start._replace(at_us=end.at_us - boot_us)


def _furthest(values: Mapping[str, int | None], others: Mapping[str, int | None]) -> dict[str, int | None]:
    """Counters only grow."""
    known = {meter: [one for one in (value, others.get(meter)) if one is not None] for meter, value in values.items()}
    return {meter: max(some, default=None) for meter, some in known.items()}


def _bare(seen: Seen) -> Seen:
    return Seen(seen.at_us, seen.ns, seen.values, seen.gauge)


# ------------------------------------------------------------------------------------------------ as JSON


def marks_json(marks: Mapping[str, Mark]) -> dict[str, list[int]]:
    return {str(meter): [mark.value, mark.at_us, mark.ns, mark.sequence] for meter, mark in marks.items()}


def marks_of(found: Mapping[str, list[int]]) -> dict[str, Mark]:
    return {meter: Mark(*mark) for meter, mark in found.items()}


def seen_json(seen: Seen | None) -> dict[str, Any]:
    if seen is None:
        return {}
    values = {str(meter): value for meter, value in seen.values.items()}
    return {"at": seen.at_us, "ns": seen.ns, "values": values, "gauge": seen.gauge, "stored": seen.stored,
            "known": seen.known, "integral": seen.integral}  # fmt: skip


def seen_of(found: Mapping[str, Any]) -> Seen | None:
    if not found:
        return None
    known = found["known"]
    return Seen(found["at"], found["ns"], found["values"], found["gauge"], found["stored"],
                None if known is None else (known[0], known[1]), found["integral"])  # fmt: skip
