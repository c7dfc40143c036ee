"""Slow work of one owner keeps no other's waiting."""

from __future__ import annotations

import threading

from runtime.shares import Shares


def test_an_owner_has_its_share_and_others_theirs() -> None:
    shares, gate, begun, done = Shares(4, 2), threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def slow() -> None:
        begun.release()
        gate.wait(30)
        done.release()

    for _ in range(6):
        shares.submit("slow", slow)
    assert begun.acquire(timeout=5)
    assert begun.acquire(timeout=5)
    quick = threading.Event()
    shares.submit("other", quick.set)
    assert quick.wait(5), "though more of the first owner were asked for before"
    assert not begun.acquire(timeout=0.1), "no more than its share"
    gate.set()
    for _ in range(6):
        assert done.acquire(timeout=5), "all of it comes to its turn"
    shares.close(wait=True)


def test_what_was_not_begun_is_not_after_the_end() -> None:
    shares, gate, ran = Shares(2, 1), threading.Event(), []
    shares.submit("one", lambda: gate.wait(30))
    shares.submit("one", lambda: ran.append("waited"))
    closing = threading.Thread(target=lambda: shares.close(wait=True))
    closing.start()
    shares.submit("other", lambda: ran.append("late"))
    closing.join(0.1)
    gate.set()
    closing.join(5)
    shares.submit("other", lambda: ran.append("after"))
    assert not closing.is_alive()
    assert "waited" not in ran
    assert "after" not in ran


def test_a_task_that_fails_takes_nothing_of_its_owners_share() -> None:
    shares, ran = Shares(1, 1), threading.Event()

    def fail() -> None:
        raise ValueError

    shares.submit("one", fail)
    shares.submit("one", ran.set)
    assert ran.wait(5)
    shares.close(wait=True)
