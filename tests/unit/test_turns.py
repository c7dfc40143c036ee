"""Many of one owner keep nobody else waiting."""

from __future__ import annotations

from console.metering.services.turns import in_turn


def test_each_has_a_turn_before_anybody_has_a_second() -> None:
    due = [(1, "many"), (2, "many"), (3, "many"), (4, "few"), (5, "many"), (6, "other"), (7, "few")]
    assert [one for one, _ in in_turn(due)] == [1, 4, 6, 2, 7, 3, 5]
    assert list(in_turn([])) == []
