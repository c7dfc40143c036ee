"""What restart policies decide: a pure table."""

from __future__ import annotations

import pytest

from runtime.api import RestartPolicy
from runtime.engines.restarting import FIRST_S, LONGEST_S, WELL_S, Decision, Past, decide, due

FAILED = Past(stopped=False, exit_code=1, cut_off=False, ran_s=1.0, restarts=0, failures=0)
ALWAYS = RestartPolicy("always")


def past(**changes: object) -> Past:
    return Past(**{name: changes.get(name, getattr(FAILED, name)) for name in Past.__slots__})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "how", "again"),
    [
        (RestartPolicy("no"), past(), False),
        (RestartPolicy("no"), past(cut_off=True, exit_code=None), False),
        (RestartPolicy("on-failure"), past(), True),
        (RestartPolicy("on-failure"), past(exit_code=0), False),
        (RestartPolicy("on-failure"), past(exit_code=None), True),
        (RestartPolicy("on-failure"), past(exit_code=None, cut_off=True), True),
        (RestartPolicy("on-failure", 2), past(restarts=1), True),
        (RestartPolicy("on-failure", 2), past(restarts=2), False),
        (RestartPolicy("on-failure", 2), past(restarts=2, ran_s=3600), False),
        (RestartPolicy("on-failure", 2), past(restarts=2, exit_code=None, cut_off=True), True),
        (RestartPolicy("always"), past(exit_code=0), True),
        (RestartPolicy("unless-stopped"), past(exit_code=0), True),
        (RestartPolicy("always"), past(stopped=True), False),
        (RestartPolicy("unless-stopped"), past(stopped=True), False),
        (RestartPolicy("always"), past(stopped=True, cut_off=True), False),
    ],
)
def test_whether_it_is_started_again(policy: RestartPolicy, how: Past, again: bool) -> None:
    assert (decide(policy, how).wait_s is not None) is again


def test_the_wait_doubles_up_to_the_longest() -> None:
    waits, failures = list[float](), 0
    for _ in range(40):
        decision = decide(ALWAYS, past(failures=failures))
        assert decision.wait_s is not None
        waits.append(decision.wait_s)
        failures = decision.failures
    assert waits[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_S


def test_a_start_that_went_well_begins_the_waits_anew() -> None:
    assert decide(ALWAYS, past(failures=9, ran_s=WELL_S)) == Decision(FIRST_S, 1)
    assert decide(ALWAYS, past(failures=9, ran_s=WELL_S - 0.1)) != Decision(FIRST_S, 1)


def test_a_reboot_waits_for_nothing_and_counts_as_no_failure() -> None:
    assert decide(ALWAYS, past(cut_off=True, failures=3, exit_code=None)) == Decision(0.0, 3)


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    assert due(100.0, 100.0)
    assert not due(100.1, 100.0)
    assert due(100.0 + LONGEST_S + 1, 100.0)
