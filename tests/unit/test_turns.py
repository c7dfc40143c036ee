"""Turns: so many at once, in their order, and nobody waits for good."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.engines.native.turns import Turns


def test_no_more_at_once_and_everybody_comes() -> None:
    turns, lock, inside, most = Turns(3), threading.Lock(), 0, 0

    def work(_: int) -> bool:
        nonlocal inside, most
        with turns.turn():
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1
        return True

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(work, range(60)))
    assert most == 3


def test_in_the_order_of_those_who_come() -> None:
    turns, came = Turns(1), []
    with ThreadPoolExecutor(5) as pool:
        with turns.turn():
            for number in range(5):
                pool.submit(lambda number=number: _note(turns, came, number))
                while len(turns._waiting) <= number:
                    time.sleep(0.001)
        pool.shutdown()
    assert came == list(range(5))


def _note(turns: Turns, came: list[int], number: int) -> None:
    with turns.turn():
        came.append(number)


def test_one_that_hangs_holds_up_nobody_for_good() -> None:
    turns = Turns(1, patience_s=0.05)
    with turns.turn(), ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(_note, turns, [], number) for number in range(3)]
        assert all(one.result(5) is None for one in waiting)
    with turns.turn():  # what was not had was not given back
        assert turns._free == 0
    assert turns._free == 1


def test_a_fault_gives_the_turn_back() -> None:
    turns = Turns(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="a fault"), turns.turn():
            raise ValueError("a fault")
    assert turns._free == 1
