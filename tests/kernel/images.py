"""A real engine with no image yet, the registries that tests take images from, and what those are filled with."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
from tests import archives
from tests.conftest import Place
from tests.kernel.bad_registry import Registry, registry
from tests.kernel.real_registry import RealRegistry, real_registry


@pytest.fixture
def home(place: Place) -> Home:
    return Home.from_environment()


@pytest.fixture
def engine(home: Home) -> Iterator[NativeEngine]:
    opened = NativeEngine(home)
    opened.images()  # the store's folders are made by the first that asks
    yield opened
    opened.teardown()


@pytest.fixture
def shop() -> Iterator[Registry]:
    """The registry whose answers a test chooses."""
    with registry() as running:
        yield running


@pytest.fixture(scope="module")
def real_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """Debian's docker-registry, one for all tests of a file."""
    with real_registry(tmp_path_factory.mktemp("shop") / "registry") as running:
        yield running


def noise(seed: int, size: int) -> bytes:
    """A layer of about ``size`` bytes that no compression makes smaller."""
    return archives.layer({f"noise-{seed}": random.Random(seed).randbytes(size)})
