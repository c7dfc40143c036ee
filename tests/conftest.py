"""Fixtures for every part.  Kernel objects that a test makes carry its own instance's name, so tests never meet."""

from __future__ import annotations

import os
import random
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.engines.native.choice import CANDIDATES
from tests.blocks import free_block


def pytest_configure(config: pytest.Config) -> None:
    """How long an example of hypothesis takes tells of the machine's load, not of the code.  The virtual machine has no hypothesis."""
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import HealthCheck, settings

        settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``root`` need it; without, they are skipped and say so."""
    if os.geteuid() == 0:
        return
    reason = pytest.mark.skip(reason="needs root")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(reason)


SLOWNESS = float(os.environ.get("SLIPWAY_TEST_SLOWNESS", "1"))


def patience(seconds: float) -> float:
    """How long to wait for what takes less than ``seconds`` on a usual machine: longer on an emulated one."""
    return seconds * SLOWNESS


def oci_runtime() -> str:
    """The path of the container runtime that this machine's containers are made with."""
    found = next(filter(None, map(shutil.which, CANDIDATES)), None)
    assert found, "neither runc nor crun is installed"
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where one test may make things: an instance name, a home and an address block that nobody else has."""

    instance: str
    home: Path
    subnets: str
    uid_base: int

    def environment(self) -> dict[str, str]:
        return {
            "SLIPWAY_INSTANCE": self.instance,
            "SLIPWAY_HOME": str(self.home),
            "SLIPWAY_SUBNETS": self.subnets,
            "SLIPWAY_UID_BASE": hex(self.uid_base),
        }


@pytest.fixture
def subnets() -> Iterator[str]:
    """An address block that nobody else has."""
    with free_block() as block:
        yield block


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subnets: str) -> Place:
    """A :class:`Place`, in the environment as well."""
    tmp_path.chmod(0o755)
    chosen = Place(
        instance=f"t{secrets.token_hex(4)}",
        home=tmp_path / "home",
        subnets=subnets,
        uid_base=0x50000000 + random.randrange(0, 0x1000) * 65536,
    )
    for name, value in chosen.environment().items():
        monkeypatch.setenv(name, value)
    return chosen
