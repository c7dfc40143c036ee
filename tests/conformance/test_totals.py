"""The contract of ``engine.totals``: a tenant's cgroup has counted what its containers used, also those that have ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import Capability, ContainerSpec, Engine, Limits, State
from runtime.engines import open_engine
from runtime.home import Home
from tests.conftest import patience
from tests.prepared import busybox

ROUNDING_NS = 1000
BUSY = ("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; true")


@pytest.fixture(params=["fake", pytest.param("native", marks=pytest.mark.root)])
def engine(request: pytest.FixtureRequest, tmp_path: Path, subnets: str) -> Iterator[Engine]:
    home = Home(tmp_path, f"t{secrets.token_hex(4)}", subnets, 0x60000000)
    made = open_engine(request.param, home)
    busybox(made)
    yield made
    made.teardown()


def lived(engine: Engine, tenant: str) -> int:
    """A container's whole life; returns its last CPU counter."""
    id = "c" + secrets.token_hex(6)
    engine.create(
        ContainerSpec(id, tenant, id, engine.image("busybox").id, command=BUSY, limits=Limits(32 << 20, 500, 32))
    )
    engine.start(id)
    if engine.name == "fake":
        engine.stop(id)
    deadline = time.monotonic() + patience(30)
    while engine.settle(id).state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (final,) = engine.final_readings(id)
    engine.remove(id)
    return final.counters.cpu_ns or 0


def test_what_ended_containers_used_is_in_their_tenants_total(engine: Engine) -> None:
    assert Capability.TENANT_TOTALS in engine.capabilities
    assert engine.totals.read(["tenant1"]) == {}
    used = [lived(engine, "tenant1") for _ in range(3)]
    other = lived(engine, "tenant2")
    found = engine.totals.read()
    assert set(found) == {"tenant1", "tenant2"}
    for tenant, ns in (("tenant1", sum(used)), ("tenant2", other)):
        assert abs(found[tenant].cpu_ns - ns) <= ROUNDING_NS * len(used)
    again = engine.totals.read(["tenant1", "tenant3"])
    assert set(again) == {"tenant1"}
    assert (again["tenant1"].boot_id, again["tenant1"].cgroup_inode) == (
        found["tenant1"].boot_id, found["tenant1"].cgroup_inode
    )  # fmt: skip
    assert again["tenant1"].boottime_ns > found["tenant1"].boottime_ns


@pytest.mark.root
def test_what_was_counted_outlives_the_end_of_the_node(tmp_path: Path, subnets: str) -> None:
    home = Home(tmp_path, f"t{secrets.token_hex(4)}", subnets, 0x60000000)
    engine = open_engine("native", home)
    busybox(engine)
    used = lived(engine, "tenant1")
    engine.teardown()
    again = open_engine("native", home)
    (total,) = again.totals.last()
    assert total.tenant == "tenant1"
    assert abs(total.cpu_ns - used) <= ROUNDING_NS
    again.totals.acknowledge(total)
    again.totals.acknowledge(total)
    assert again.totals.last() == ()
