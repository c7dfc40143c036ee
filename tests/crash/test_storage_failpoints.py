"""kill -9 between the steps of volumes, disks, copies and commits: the next makes it whole, and nothing is left or lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from runtime.api import State
from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.failpoint import FILE_POINTS, POINTS, VOLUME_POINTS
from tests import programs
from tests.conftest import Place
from tests.kernel.containers import fresh_engine
from tests.marks import crashed_elsewhere, no_cgroup
from tests.traces import Traces, traces

pytestmark = [pytest.mark.root, no_cgroup]
LIFE = """
import io, os, tarfile
from runtime.api import CommitSpec, ContainerSpec, Limits, VolumeMount, VolumeSpec
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
volumes = engine.volumes
volumes.create(VolumeSpec("tenant1", "plain"))
volumes.create(VolumeSpec("tenant1", "sized", 16 << 20))
mounts = (VolumeMount("plain", "/etc"), VolumeMount("sized", "/usr/sbin"))
spec = ContainerSpec("cvictim", "tenant1", "victim", engine.image("busybox").id, command=("sleep", "100000"),
                     limits=Limits(32 << 20, 500, 32, disk_bytes=16 << 20), volumes=mounts)
engine.create(spec)
def copied():
    held = io.BytesIO()
    engine.files.copy_out("cvictim", "/etc", held)
    held.seek(0)
    return {member.name for member in tarfile.open(fileobj=held)}
engine.start("cvictim")
assert "etc/passwd" in copied(), copied()
engine.stop("cvictim", grace_s=0)
assert "etc/passwd" in copied(), copied()
engine.files.commit("cvictim", CommitSpec("test/committed"))
engine.remove("cvictim")
engine.remove_image("test/committed")
for name in ("plain", "sized"):
    volumes.remove("tenant1", name)
print("lived")
"""
STEADY = """
from runtime.api import ContainerSpec, Limits, VolumeMount, VolumeSpec
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
engine.volumes.create(VolumeSpec("tenant1", "steady", 16 << 20))
engine.create(ContainerSpec("csteady", "tenant1", "steady", engine.image("busybox").id,
    command=("sh", "-c", "echo kept > /v/file; exec sleep 100000"), volumes=(VolumeMount("steady", "/v"),)))
engine.start("csteady")
"""
OF_A_LIFE = ("create.", "start.", "settle.", "release.", "remove.")
IN_A_LIFE = tuple(point for point in POINTS if point.startswith(OF_A_LIFE))
OWN = (*VOLUME_POINTS, *FILE_POINTS)


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    with fresh_engine() as made:
        programs.lived(STEADY)
        yield made


def kernel(found: Traces) -> tuple[frozenset[str], ...]:
    return found.mounts, found.cgroups, found.loops


@pytest.mark.parametrize("point", [*(pytest.param(point, marks=crashed_elsewhere) for point in IN_A_LIFE), *OWN])
def test_a_kill_at_any_point_of_storage_is_made_whole(engine: NativeEngine, point: str) -> None:
    before = traces(engine.home)
    steady = engine.inspect("csteady")
    died = programs.run(LIFE, point)
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"
    again = NativeEngine(engine.home)
    again.reconcile()
    running = [status.id for status in again.list() if status.state is State.RUNNING]
    if running == ["csteady"]:
        assert kernel(traces(engine.home)) == kernel(before), "left in the kernel by a container that does not run"
    assert again.inspect("csteady") == steady, "a running container was disturbed"
    whole = programs.run(LIFE)
    assert whole.stdout == "lived\n", whole.stderr
    left = traces(engine.home).new_since(before)
    files = [name for name in left.pop("files", []) if "/final/" not in name and "/names/" not in name]
    assert not left, left
    assert not [name for name in files if "victim" in name or "/volumes/tenant1/" in name or "/ingest/" in name], files
    data = engine.volumes.inspect("tenant1", "steady")
    assert data.containers == ("csteady",)


def test_every_point_of_storage_has_a_name_of_its_own() -> None:
    print(f"{len(VOLUME_POINTS) + len(FILE_POINTS)} failpoints of storage")
    assert len({*IN_A_LIFE, *OWN}) == len(IN_A_LIFE) + len(OWN)
