"""Waiting for descriptors, of any number."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator

import pytest

from runtime.kernel.ready import either, readable, writable
from tests.descriptors import SELECT_KNOWS, all_that_select_knows_taken


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with all_that_select_knows_taken():
        output, input = os.pipe()
        assert output > SELECT_KNOWS
        yield output, input
        os.close(output)
        os.close(input)


def test_what_has_something_to_read_is_named(pipe: tuple[int, int]) -> None:
    output, input = pipe
    assert readable([output], 0.01) == []
    os.write(input, b"x")
    assert readable([output], 10) == [output]
    assert os.read(output, 10) == b"x"
    assert readable([output], 0) == []


def test_who_would_wait_for_ever_waits_no_longer_than_needed(pipe: tuple[int, int]) -> None:
    """Not an OverflowError: poll(2) counts 24 days at most."""
    output, input = pipe
    os.write(input, b"x")
    for timeout_s in (10.0**9, math.inf, None):
        assert readable([output], timeout_s) == [output]


def test_an_end_is_something_to_read() -> None:
    output, input = os.pipe()
    os.close(input)
    try:
        assert readable([output]) == [output]
    finally:
        os.close(output)


def test_what_is_full_takes_nothing_until_somebody_reads() -> None:
    with all_that_select_knows_taken():
        mine, other = socket.socketpair()
    with mine, other:
        mine.setblocking(False)
        assert writable(mine, 10)
        while writable(mine, 0):
            mine.send(bytes(1 << 16))
        assert not writable(mine, 0.01)


def test_what_is_closed_is_an_error() -> None:
    output, input = os.pipe()
    os.close(output)
    os.close(input)
    with pytest.raises(OSError, match="Bad file descriptor"):
        readable([output], 1)


def test_a_stream_that_is_wanted_for_both_is_told_for_what_it_is_ready() -> None:
    mine, other = socket.socketpair()
    with mine:
        here, there = mine.fileno(), other.fileno()
        assert either([mine, other], [mine], 0) == ([], [here])
        other.send(b"x")
        assert either([mine, other], [mine], 0) == ([here], [here])
        assert either([other], [mine], 0) == ([], [here])
        assert either([there], [], 0.01) == ([], [])
        other.close()
        assert either([], [mine], 10) == ([], [here]), "an end answers a write, too"
