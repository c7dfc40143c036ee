"""Work in a thread of its own."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from runtime.kernel.apart import apart


def test_another_thread_does_it_and_its_answer_comes_back() -> None:
    assert apart(threading.get_ident) != threading.get_ident()
    assert apart(lambda: 7) == 7


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 // 0)


class Interrupted(Exception):
    pass


def test_who_is_interrupted_goes_on_when_it_is_over() -> None:
    """Twice, as people do.  What was begun might otherwise be done after it has been taken back."""
    begun, let, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        let.wait(10)
        done.set()

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    assert main is not None

    def signalled() -> None:
        begun.wait(10)
        time.sleep(0.05)
        for _ in range(2):
            signal.pthread_kill(main, signal.SIGUSR1)
            time.sleep(0.05)
        let.set()

    sender = threading.Thread(target=signalled)
    sender.start()
    try:
        with pytest.raises(Interrupted):
            apart(work)
        assert done.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)
        sender.join()
