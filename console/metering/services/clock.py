"""A clock that was set forward is not believed at once by what cannot be taken back, as the closing of a month.

The time since the boot (CLOCK_BOOTTIME) goes on whatever is set, so a jump is a change of the difference of both.  One of more than
``JUMP`` is believed once it has stayed for ``BELIEVED_AFTER``: set by mistake for minutes, or by one false answer of a time server, it closes
no month.  A clock that is set back does nothing before its time, and is believed.  So is that of another boot, but where it is more than
``LONGEST_DOWN`` after the time that was believed last: a machine may have been off for so long, or its clock may have lost the time.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from pathlib import Path

from django.db import transaction
from django.db.models import Max

from console.metering.models import MachineClock

log = logging.getLogger(__name__)
JUMP, BELIEVED_AFTER, LONGEST_DOWN = dt.timedelta(hours=1), dt.timedelta(hours=2), dt.timedelta(days=1)
MICROSECOND = dt.timedelta(microseconds=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def since_boot() -> tuple[str, int]:
    """Which boot this is, and for how long, in microseconds."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return boot, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


@transaction.atomic
def believed(now: dt.datetime, boot: str, boottime_us: int) -> bool:
    """Whether ``now``, as the clock says at that time since the boot, is to be taken for the time."""
    now_us = (now - EPOCH) // MICROSECOND
    ahead_us = now_us - boottime_us
    made = {"ahead_us": min(ahead_us, _latest_us(now_us) - boottime_us)}
    clock, _ = MachineClock.objects.select_for_update().get_or_create(boot_id=boot, defaults=made)
    if ahead_us - clock.ahead_us > JUMP // MICROSECOND and not _stayed(clock, ahead_us, boottime_us):
        log.warning(
            "the clock was set forward, to %s: no month is closed by it before it has stayed so for %s",
            now,
            BELIEVED_AFTER,
        )
        return False
    clock.ahead_us, clock.doubted_us, clock.seen_us = ahead_us, None, now_us
    clock.save()
    MachineClock.objects.filter(seen_us__gt=now_us).update(seen_us=now_us)  # by a clock that was ahead, as is known now
    return True


def _latest_us(now_us: int) -> int:
    """The latest time of a boot that is believed at once."""
    last_us: int | None = MachineClock.objects.aggregate(last=Max("seen_us"))["last"]
    return last_us + (LONGEST_DOWN - JUMP) // MICROSECOND if last_us else now_us


def _stayed(clock: MachineClock, ahead_us: int, boottime_us: int) -> bool:
    if clock.doubted_us is None or abs(ahead_us - clock.doubted_us) > JUMP // MICROSECOND:
        clock.doubted_us, clock.doubted_since_us = ahead_us, boottime_us
        clock.save()
    return boottime_us - clock.doubted_since_us >= BELIEVED_AFTER // MICROSECOND
