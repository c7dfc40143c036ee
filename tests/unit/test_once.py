"""What is made when it is asked for first: once, also by many threads, and again after a failure."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime import logs
from runtime.engines.native.once import once
from runtime.image import slugs
from runtime.image.recipe import FOLDER, recipe, recipes


class Owner:
    def __init__(self, failures: int = 0) -> None:
        self.made = 0
        self.failures = failures

    @once
    def part(self) -> object:
        self.made += 1
        if self.made <= self.failures:
            raise OSError("not yet")
        time.sleep(0.05)
        return object()


def test_many_threads_get_the_same() -> None:
    owner, gate = Owner(), threading.Barrier(8)

    def ask(_: int) -> object:
        gate.wait(10)
        return owner.part

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert owner.made == 1
    assert Owner().part is not owner.part


def test_a_failure_is_not_kept() -> None:
    owner = Owner(failures=1)
    with pytest.raises(OSError, match="not yet"):
        _ = owner.part
    assert owner.part is owner.part
    assert owner.made == 2


def test_a_logger_is_that_of_its_module(caplog: pytest.LogCaptureFixture) -> None:
    logger = logs.of("runtime.some")
    with caplog.at_level(logging.WARNING, "runtime.some"):
        logger.warning("%s is gone", "it")
    assert [(row.name, row.getMessage(), row.funcName) for row in caplog.records] == [
        ("runtime.some", "it is gone", "test_a_logger_is_that_of_its_module")
    ]


def test_a_recipe_is_known_by_its_name_alone() -> None:
    assert {one.slug for one in recipes()} == {path.stem for path in FOLDER.glob("*.toml")}
    for one in recipes():
        assert slugs.known(one.slug)
        assert recipe(one.slug) is one
    for text in ("nonesuch", "../recipes/busybox", "busybox:latest", "Busybox", ""):
        assert not slugs.known(text)
        assert recipe(text) is None
