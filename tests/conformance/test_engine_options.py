"""Options of a container, held against every engine: what is outside the policy is refused by name, and nothing is half made."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.api import ContainerSpec, Engine, Limits, State, Tmpfs, Ulimit
from runtime.engines import open_engine
from runtime.errors import InvalidSpec, LimitExceeded, RuntimeFault
from runtime.home import Home
from tests.marks import refused_early
from tests.prepared import busybox

pytestmark = pytest.mark.root


@pytest.fixture(params=["fake", "native"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, subnets: str) -> Iterator[Engine]:
    home = Home(tmp_path, f"t{secrets.token_hex(4)}", subnets, 0x60000000)
    made = open_engine(request.param, home)
    busybox(made)
    yield made
    made.teardown()


def spec(engine: Engine, **changes: Any) -> ContainerSpec:
    plain = ContainerSpec(
        id="coptions", tenant="tenant1", name="options", image=engine.image("busybox").id, command=("sleep", "100000"),
        limits=Limits(memory_bytes=32 << 20, cpu_millis=500, pids=32),
    )  # fmt: skip
    return replace(plain, **changes)


@refused_early
@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"capabilities_add": ("SYS_ADMIN",)}, InvalidSpec, "capabilities_add.SYS_ADMIN"),
        ({"capabilities_add": ("ALL",)}, InvalidSpec, "capabilities_add.ALL"),
        ({"capabilities_drop": ("no such",)}, InvalidSpec, "capabilities_drop.no such"),
        ({"hostname": "mail..example"}, InvalidSpec, "hostname"), ({"hostname": "a.b-"}, InvalidSpec, "hostname"),
        ({"hostname": "a" * 32 + "." + "b" * 32}, InvalidSpec, "hostname"),
        ({"capabilities_drop": ("NET_RWA",)}, InvalidSpec, "capabilities_drop.NET_RWA"),
        ({"sysctls": {"kernel.panic": "1"}}, InvalidSpec, "sysctls.kernel.panic"),
        ({"sysctls": {"net/../kernel": "1"}}, InvalidSpec, "sysctls.net/../kernel"),
        ({"sysctls": {"net..core": "1"}}, InvalidSpec, "sysctls.net..core"),
        ({"sysctls": {"net.core.somaxconn": "1\n2"}}, InvalidSpec, "sysctls.net.core.somaxconn"),
        ({"sysctls": {"kernel.sem": "\udcff"}}, InvalidSpec, "sysctls.kernel.sem"),
        ({"ulimits": (Ulimit("rtprio", 1, 1),)}, InvalidSpec, "ulimits[0].name"),
        ({"ulimits": (Ulimit("nofile", 9, 8),)}, InvalidSpec, "ulimits[0].soft"),
        ({"ulimits": (Ulimit("nofile", -2, 8),)}, InvalidSpec, "ulimits[0].soft"),
        ({"ulimits": (Ulimit("nofile", 8, -1),)}, LimitExceeded, "ulimits[0].hard"),
        ({"ulimits": (Ulimit("core", 0, 0), Ulimit("core", 0, 1))}, InvalidSpec, "ulimits[1].name"),
        ({"tmpfs": (Tmpfs("cache"),)}, InvalidSpec, "tmpfs[0].path"),
        ({"tmpfs": (Tmpfs("/"),)}, InvalidSpec, "tmpfs[0].path"),
        ({"tmpfs": (Tmpfs("/a/../proc"),)}, InvalidSpec, "tmpfs[0].path"),
        ({"tmpfs": (Tmpfs("/proc"),)}, InvalidSpec, "tmpfs[0].path"),
        ({"tmpfs": (Tmpfs("/dev/pts"),)}, InvalidSpec, "tmpfs[0].path"),
        ({"tmpfs": (Tmpfs("/cache", 1),)}, InvalidSpec, "tmpfs[0].size_bytes"),
        ({"tmpfs": (Tmpfs("/cache", mode=0o4777),)}, InvalidSpec, "tmpfs[0].mode"),
        ({"tmpfs": (Tmpfs("/cache"), Tmpfs("/cache"))}, InvalidSpec, "tmpfs[1].path"),
        ({"labels": {"": "x"}}, InvalidSpec, "labels"),
        ({"labels": {"x": "y" * 70_000}}, InvalidSpec, "labels"),
        ({"limits": Limits(memory_bytes=32 << 20, pids=1)}, InvalidSpec, "limits.pids"),
    ],
)  # fmt: skip
def test_what_is_outside_the_policy_is_refused_by_name(
    engine: Engine, changes: Mapping[str, Any], kind: type[RuntimeFault], field: str
) -> None:
    with pytest.raises(kind) as caught:
        engine.create(spec(engine, **changes))
    assert caught.value.field == field
    assert caught.value.hint
    assert engine.list() == ()


def test_every_option_at_once_runs_and_is_remembered(engine: Engine) -> None:
    made = spec(
        engine, read_only=True, labels={"team": "blue"}, ulimits=(Ulimit("core", 0, 0), Ulimit("nofile", 100, 200)),
        capabilities_add=("net_raw",), capabilities_drop=("ALL",), sysctls={"net.ipv4.tcp_keepalive_time": "100", "kernel.shmmni": "200"},
        tmpfs=(Tmpfs("/cache", 1 << 20, 0o700), Tmpfs("/dev/shm", 2 << 20)),
    )  # fmt: skip
    engine.create(made)
    status = engine.start(made.id)
    assert (status.state, status.labels) == (State.RUNNING, {"team": "blue"})
    assert engine.spec(made.id) == made
    assert engine.create(made).epoch == 1, "the same spec again is no conflict"


def test_one_process_is_enough_without_an_init(engine: Engine) -> None:
    made = spec(engine, init=False, limits=Limits(memory_bytes=32 << 20, pids=1))
    engine.create(made)
    assert engine.start(made.id).state is State.RUNNING
