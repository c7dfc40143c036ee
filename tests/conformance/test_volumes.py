"""The contract of runtime.api.Volumes, and of the disk limit's place in a spec, held against every engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.api import Engine, Limits, State, VolumeMount, VolumeSpec
from runtime.errors import Conflict, InvalidSpec, LimitExceeded, NotFound
from tests.conformance.test_engine import Make, engine, make, run
from tests.marks import no_cgroup, records_only, refused_early

__all__ = ["engine", "make"]
pytestmark = no_cgroup
MIB = 2**20


def test_a_volumes_life(engine: Engine) -> None:
    made = engine.volumes.create(VolumeSpec("tenant1", "data", 32 * MIB, {"of": "a test"}))
    assert (made.tenant, made.name, made.size_bytes, made.containers) == ("tenant1", "data", 32 * MIB, ())
    assert made.labels == {"of": "a test"}
    assert engine.volumes.create(VolumeSpec("tenant1", "data", 32 * MIB, {"of": "a test"})) == made
    assert engine.volumes.inspect("tenant1", "data") == made
    engine.volumes.create(VolumeSpec("tenant2", "data"))
    assert [(one.tenant, one.name) for one in engine.volumes.list()] == [("tenant1", "data"), ("tenant2", "data")]
    assert [one.tenant for one in engine.volumes.list(tenant="tenant2")] == ["tenant2"]
    engine.volumes.remove("tenant1", "data")
    engine.volumes.remove("tenant1", "data")
    with pytest.raises(NotFound):
        engine.volumes.inspect("tenant1", "data")


@records_only
def test_a_name_belongs_to_one_of_a_tenant(engine: Engine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    with pytest.raises(Conflict) as caught:
        engine.volumes.create(VolumeSpec("tenant1", "data", 32 * MIB))
    assert caught.value.field == "name"


@refused_early
@pytest.mark.parametrize(
    ("spec", "kind", "field"),
    [
        (VolumeSpec("tenant1", "../data"), InvalidSpec, "name"),
        (VolumeSpec("tenant1", ".."), InvalidSpec, "name"),
        (VolumeSpec("tenant1", ""), InvalidSpec, "name"),
        (VolumeSpec("../tenant1", "data"), InvalidSpec, "tenant"),
        (VolumeSpec("tenant1", "data", 1), InvalidSpec, "size_bytes"),
        (VolumeSpec("tenant1", "data", 1 << 60), LimitExceeded, "size_bytes"),
    ],
)
def test_a_bad_volume_names_its_field(engine: Engine, spec: VolumeSpec, kind: type[Exception], field: str) -> None:
    with pytest.raises(kind) as caught:
        engine.volumes.create(spec)
    assert caught.value.field == field  # type: ignore[attr-defined]
    assert engine.volumes.list() == ()
    if kind is InvalidSpec and field in {"name", "tenant"}:
        for verb in (engine.volumes.inspect, engine.volumes.remove):
            with pytest.raises(InvalidSpec):
                verb(spec.tenant, spec.name)


@refused_early
@pytest.mark.parametrize(
    ("mounts", "kind", "field"),
    [
        ((VolumeMount("none", "/v"),), NotFound, "volumes[0].volume"),
        ((VolumeMount("../data", "/v"),), InvalidSpec, "volumes[0].volume"),
        ((VolumeMount("data", "v"),), InvalidSpec, "volumes[0].path"),
        ((VolumeMount("data", "/v/../../x"),), InvalidSpec, "volumes[0].path"),
        ((VolumeMount("data", "/"),), InvalidSpec, "volumes[0].path"),
        ((VolumeMount("data", "/proc/x"),), InvalidSpec, "volumes[0].path"),
        ((VolumeMount("data", "//dev"),), InvalidSpec, "volumes[0].path"),
        ((VolumeMount("data", "/v"), VolumeMount("data", "/v/")), InvalidSpec, "volumes[1].path"),
        (tuple(VolumeMount("data", f"/v{n}") for n in range(65)), InvalidSpec, "volumes"),
    ],
)
def test_a_bad_mount_names_its_field(
    engine: Engine, make: Make, mounts: tuple[VolumeMount, ...], kind: type[Exception], field: str
) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    with pytest.raises(kind) as caught:
        engine.create(make(volumes=mounts))
    assert caught.value.field == field  # type: ignore[attr-defined]
    assert engine.list() == ()


def test_one_that_a_container_has_is_kept(engine: Engine, make: Make) -> None:
    for name in ("mine", "free"):
        engine.volumes.create(VolumeSpec("tenant1", name))
    engine.volumes.create(VolumeSpec("tenant2", "mine"))
    id = run(engine, make(volumes=(VolumeMount("mine", "/v"), VolumeMount("mine", "/again", read_only=True))))
    assert engine.volumes.inspect("tenant1", "mine").containers == (id,)
    with pytest.raises(Conflict) as caught:
        engine.volumes.remove("tenant1", "mine")
    assert caught.value.data["container"] == id
    assert [one.name for one in engine.volumes.prune(tenant="tenant1")] == ["free"]
    engine.remove(id, force=True)
    assert [(one.tenant, one.name) for one in engine.volumes.prune()] == [("tenant1", "mine"), ("tenant2", "mine")]
    assert engine.volumes.list() == ()


@records_only
def test_a_spec_is_told_with_its_volumes_and_its_disk(engine: Engine, make: Make) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    spec = make(volumes=(VolumeMount("data", "/v", read_only=True),), limits=Limits(disk_bytes=32 * MIB))
    engine.create(spec)
    assert engine.spec(spec.id) == spec
    assert engine.create(spec).state is State.CREATED
    with pytest.raises(Conflict):
        engine.create(replace(spec, volumes=()))


@refused_early
@pytest.mark.parametrize(("size", "kind"), [(1, InvalidSpec), (1 << 60, LimitExceeded)])
def test_a_disk_that_cannot_be_is_refused(engine: Engine, make: Make, size: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        engine.create(make(limits=Limits(disk_bytes=size)))
    assert caught.value.field == "limits.disk_bytes"  # type: ignore[attr-defined]
    assert engine.list() == ()
