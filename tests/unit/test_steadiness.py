"""The judgement of a soak: growth is found, noise and a late step within bounds are not."""

from __future__ import annotations

import ctypes
import os
import random

import pytest

from tests.steadiness import Look, Watched, give_back

MIB = 2**20
SECONDS = 600


def watched(memory: list[float], descriptors: list[int] | None = None) -> Watched:
    found = descriptors or [20] * len(memory)
    looks = [Look(float(at), int(one), fds) for at, (one, fds) in enumerate(zip(memory, found, strict=True))]
    return Watched([[1]], looks={1: looks})


@pytest.mark.parametrize("a_minute", [0.75, 2])
def test_what_grows_is_told(a_minute: float) -> None:
    chance = random.Random(7)
    memory = [(60 + at * a_minute / 60 + chance.uniform(-0.5, 0.5)) * MIB for at in range(SECONDS)]
    (said,) = watched(memory).growing_memory()
    assert "the memory of 1 grows" in said


def test_noise_is_no_growth() -> None:
    chance = random.Random(7)
    assert not watched([(60 + chance.uniform(-3, 3)) * MIB for _ in range(SECONDS)]).growing_memory()


def test_what_is_taken_for_a_moment_more_and_more_often_is_no_growth() -> None:
    chance = random.Random(7)
    memory = [(60 + 8 * (chance.random() < 0.8 * at / SECONDS)) * MIB for at in range(SECONDS)]
    assert not watched(memory).growing_memory()


def test_those_that_do_the_same_are_judged_together() -> None:
    def three(slopes: tuple[float, float, float]) -> list[str]:
        each = {pid: watched([(20 + at * slope / SECONDS) * MIB for at in range(SECONDS)]).looks[1] for pid, slope in enumerate(slopes)}  # fmt: skip
        return Watched([[0, 1, 2]], looks=each).growing_memory()

    assert not three((-5, 6, 1)), "one for another is no growth"
    (said,) = three((6, 8, 7))
    assert "the memory of 0, 1, 2 grows" in said


def test_what_a_process_takes_at_its_start_is_no_growth() -> None:
    assert not watched([(30 + min(at, 60) / 2) * MIB for at in range(SECONDS)]).growing_memory()


def test_descriptors_that_are_kept_are_told() -> None:
    assert watched([60 * MIB] * SECONDS, [20 + at // 20 for at in range(SECONDS)]).growing_descriptors()
    assert not watched([60 * MIB] * SECONDS, [20 + at % 8 for at in range(SECONDS)]).growing_descriptors()


def test_what_malloc_only_keeps_is_not_the_processs() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]

    def looked_at() -> int:
        one = Watched([[os.getpid()]])
        one.look()
        return one.looks[os.getpid()][0].memory

    give_back()  # what tests before left would be taken first
    before = looked_at()
    taken = [libc.malloc(1000) for _ in range(30_000)]
    for one in taken:
        ctypes.memset(one, 1, 1000)
    held = looked_at()
    last = libc.malloc(1000)  # lies above, so that the top does not shrink by itself
    for one in taken:
        libc.free(one)
    kept = looked_at()
    give_back()
    assert held - before > 20 * MIB
    assert kept - before > 20 * MIB
    assert looked_at() - before < 8 * MIB
    libc.free(last)


def test_a_real_process_is_looked_at() -> None:
    found = Watched([[os.getpid(), 2**22 + 1]])
    found.look()
    found.look()  # within the second: nothing
    ((pid, looks),) = found.looks.items()
    assert (pid, len(looks)) == (os.getpid(), 1)
    assert looks[0].memory > MIB
    assert looks[0].descriptors >= 3
