"""kill -9 at every failpoint of pause, resume, update, rename and a tenant's ceilings: the next reconciliation makes it one or the other."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from runtime.api import Limits, State, TenantLimits
from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.failpoint import CONTROLS
from runtime.kernel import freezer
from tests import programs
from tests.conftest import Place, patience
from tests.kernel.containers import fresh_engine, run, spec
from tests.marks import no_cgroup

pytestmark = pytest.mark.root

VERBS = """
import time
from runtime.api import Limits, TenantLimits
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
controls = NativeEngine(Home.from_environment()).controls
controls.pause("cvictim")
controls.resume("cvictim")
controls.update("cvictim", Limits(64 << 20, 1000, 64))
controls.rename("cvictim", "renamed")
controls.limit_tenant("tenant1", TenantLimits(cpu_millis=400, pids=99))
controls.limit_tenant("tenant1", TenantLimits())
print("done")
"""
SMALL, LARGE = Limits(32 << 20, 500, 32), Limits(64 << 20, 1000, 64)


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    with fresh_engine() as made:
        for name in ("victim", "steady"):
            run(made, spec(made, id=f"c{name}", name=name, limits=SMALL))
        yield made


def kernel(engine: NativeEngine, id: str) -> dict[str, str]:
    return dict(engine.isolation(id).cgroup_limits)


@pytest.mark.parametrize(
    "point", [pytest.param(one, marks=no_cgroup if one.startswith("rename") else ()) for one in CONTROLS]
)
def test_a_kill_in_a_control_leaves_all_or_nothing(engine: NativeEngine, point: str) -> None:
    steady, of_steady = engine.inspect("csteady"), kernel(engine, "csteady")
    died = programs.run(VERBS, point)
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"
    again = NativeEngine(engine.home)
    found = again.reconcile()
    assert set(found.adopted) == {"cvictim", "csteady"}
    assert found.failed == ()
    assert (again.inspect("csteady"), kernel(again, "csteady")) == (steady, of_steady), "a bystander was disturbed"
    status, spec = again.inspect("cvictim"), again.spec("cvictim")
    assert status.paused == freezer.frozen(again.home.cgroup("tenant1", "cvictim"))
    assert spec.limits in {SMALL, LARGE}
    assert status.limits_at_start == SMALL
    assert [size.limits for size in status.sizes] == ([LARGE] if spec.limits == LARGE else [])
    assert_kernel_has(again, spec.limits)
    free = {"victim", "renamed"} - {spec.name}
    again.create(replace(again.spec("csteady"), id="cother", name=free.pop()))
    again.remove("cother")
    assert not list(again.home.state.glob("ceilings/*")), "the first ceiling was not promised yet"
    whole = programs.run(VERBS)
    assert whole.stdout == "done\n", whole.stderr
    assert (again.inspect("cvictim").name, again.spec("cvictim").limits) == ("renamed", LARGE)
    assert not again.inspect("cvictim").paused
    assert again.controls.tenant_limits("tenant1") == TenantLimits()
    assert again.stop("cvictim", grace_s=patience(10)).state is State.EXITED
    (final,) = again.final_readings("cvictim")
    assert (final.limits, [size.limits for size in final.sizes]) == (SMALL, [LARGE])


def assert_kernel_has(engine: NativeEngine, limits: Limits) -> None:
    """As a container that was started with these has it."""
    model = replace(engine.spec("csteady"), id="cmodel", name="model", limits=limits)
    engine.create(model)
    engine.start("cmodel")
    assert kernel(engine, "cvictim") == kernel(engine, "cmodel")
    engine.remove("cmodel", force=True)


def test_a_status_that_an_older_version_wrote_is_read(engine: NativeEngine) -> None:
    """Without what has come since."""
    import json

    for name, new in (
        ("status.json", ("paused", "oom_kills", "first_limits", "sizes", "updating")),
        ("spec.json", ("init", "ulimits", "capabilities_add", "capabilities_drop", "sysctls", "tmpfs")),
    ):
        file = engine.home.container("cvictim") / name
        fields = json.loads(file.read_text())
        for key in new:
            del fields[key]
        if name == "spec.json":
            fields["limits"] = {
                key: fields["limits"][key] for key in ("memory_bytes", "cpu_millis", "pids", "log_bytes")
            }
        file.write_text(json.dumps(fields))
    again = NativeEngine(engine.home)
    assert again.reconcile().adopted == ("csteady", "cvictim")
    assert again.inspect("cvictim").state is State.RUNNING
    assert again.spec("cvictim").limits == SMALL
