"""A clock that was set forward closes no month before it has stayed so."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from console.metering.models import MachineClock
from console.metering.services import clock, cycle
from console.metering.services.clock import BELIEVED_AFTER, believed, since_boot
from console.operations import tasks

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC)
MINUTE, HOUR, YEAR = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=365)


def at(elapsed: dt.timedelta, ahead: dt.timedelta = dt.timedelta(), boot: str = "one") -> bool:
    """``elapsed`` since the boot, the clock is ``ahead`` of what it was at first."""
    return believed(NOW + elapsed + ahead, boot, elapsed // dt.timedelta(microseconds=1))


@pytest.mark.django_db
def test_what_is_set_forward_for_minutes_is_never_believed() -> None:
    assert at(MINUTE)
    assert not at(11 * MINUTE, YEAR)
    assert not at(21 * MINUTE, YEAR)
    assert at(31 * MINUTE)
    assert not at(41 * MINUTE + BELIEVED_AFTER, YEAR), "it is doubted anew"


@pytest.mark.django_db
def test_what_stays_is_believed_and_goes_on() -> None:
    assert at(MINUTE)
    assert not at(11 * MINUTE, YEAR)
    assert not at(10 * MINUTE + BELIEVED_AFTER, YEAR)
    assert at(11 * MINUTE + BELIEVED_AFTER, YEAR)
    assert at(12 * MINUTE + BELIEVED_AFTER, YEAR)
    assert not at(13 * MINUTE + BELIEVED_AFTER, YEAR + 2 * HOUR), "the next jump is another"


@pytest.mark.django_db
def test_a_doubted_clock_that_is_set_once_more_waits_anew() -> None:
    assert at(MINUTE)
    assert not at(11 * MINUTE, YEAR)
    assert not at(10 * MINUTE + BELIEVED_AFTER, 2 * YEAR)
    assert not at(11 * MINUTE + BELIEVED_AFTER, 2 * YEAR)


@pytest.mark.django_db
def test_small_steps_one_set_back_and_another_boot_are_believed() -> None:
    assert at(MINUTE)
    assert all(at(step * HOUR, step * 50 * MINUTE) for step in range(1, 9)), "as many of less than an hour"
    assert at(MINUTE, 30 * HOUR, boot="two")
    assert at(10 * HOUR, -YEAR)


@pytest.mark.django_db
def test_a_boot_by_a_clock_that_lost_the_time_is_believed_once_that_stays() -> None:
    """Or a machine that was off for a year, which nobody can tell apart."""
    assert at(10 * HOUR)
    assert not at(MINUTE, YEAR, boot="two")
    assert not at(2 * MINUTE, YEAR, boot="two")
    assert at(5 * MINUTE, 12 * HOUR, boot="two"), "a time server has set it right"
    assert not at(MINUTE, YEAR, boot="three")
    assert at(MINUTE + BELIEVED_AFTER, YEAR, boot="three")


@pytest.mark.django_db(transaction=True)
def test_while_it_is_in_doubt_nothing_is_billed(monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[dt.datetime] = []
    monkeypatch.setattr(cycle, "turn", turned.append)
    tasks.bill()
    assert len(turned) == 1
    monkeypatch.setattr(timezone, "now", lambda: dt.datetime.now(dt.UTC) + YEAR)
    tasks.bill()
    assert len(turned) == 1
    boot, elapsed_us = since_boot()
    later = (boot, elapsed_us + BELIEVED_AFTER // dt.timedelta(microseconds=1))
    monkeypatch.setattr(clock, "since_boot", lambda: later)
    monkeypatch.setattr(timezone, "now", lambda: dt.datetime.now(dt.UTC) + YEAR + BELIEVED_AFTER)
    tasks.bill()
    assert len(turned) == 2


class Ways(TestCase):
    @given(st.lists(st.tuples(st.integers(1, 600), st.integers(-400, 400)), min_size=1, max_size=12))
    def test_none_is_believed_that_has_not_stayed(self, steps: list[tuple[int, int]]) -> None:
        """Of any sequence of minutes that pass and hours that the clock is set to."""
        elapsed, seen = dt.timedelta(), list[tuple[dt.timedelta, dt.timedelta, bool]]()
        for minutes, hours in steps:
            elapsed += minutes * MINUTE
            ahead = hours * HOUR
            seen.append((elapsed, ahead, at(elapsed, ahead)))
        believed_ahead = seen[0][1]
        for number, (when, ahead, answer) in enumerate(seen):
            if ahead - believed_ahead > HOUR and answer:
                held = [one for one in seen[:number] if when - one[0] >= BELIEVED_AFTER and abs(one[1] - ahead) <= HOUR]
                assert held, "it was so at least that long ago"
            if answer:
                believed_ahead = ahead
        assert MachineClock.objects.get().doubted_us is None or not seen[-1][2]
