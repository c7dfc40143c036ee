"""Volumes of a tenant: made, mounted and removed by named people; what the engine says of them; and their quota."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from django.db import connection
from django.utils import timezone

from console.accounts.models import AuditEvent, Quota, Tenant, User
from console.core.errors import Full, Invalid, Missing, NotAllowed
from console.operations import services as operations
from console.operations.models import Operation
from console.operations.reconciling import reconcile_rows
from console.operations.tasks import run, sweep
from console.workloads import selectors, services
from console.workloads.models import Container, Volume
from console.workloads.services import MountRequest
from runtime.api import VolumeMount, VolumeSpec
from runtime.engines.fake.engine import FakeEngine
from runtime.errors import NotFound
from tests.console.launching import BUSYBOX, act, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
GIB = 2**30


def made(tenant: Tenant, actor: User, name: str = "data", size: int | None = GIB) -> Volume:
    operation = services.create_volume(
        tenant=tenant, actor=actor, name=name, size_bytes=size, request_key=f"v{Operation.objects.count()}-{name}"
    )
    run(operation=operation.id)
    return Volume.objects.get(tenant=tenant, name=name, removed_at=None)


def removed(volume: Volume, actor: User) -> Operation:
    operation = services.remove_volume(volume=volume, actor=actor, request_key=f"r{Operation.objects.count()}")
    run(operation=operation.id)
    operation.refresh_from_db()
    volume.refresh_from_db()
    return operation


def test_from_making_to_removal(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    volume = made(tenant, member)
    assert (volume.state, volume.created_by) == ("ready", member)
    assert volume.made_at
    assert volume.used_bytes is not None
    assert engine.volumes.inspect(tenant.id, "data").size_bytes == GIB
    assert removed(volume, member).state == "succeeded"
    assert (volume.state, volume.removed_at is None) == ("removed", False)
    assert engine.volumes.list() == ()
    assert made(tenant, member, size=None).pk != volume.pk, "the name is free again"
    lines = AuditEvent.objects.filter(tenant=tenant).order_by("pk").values_list("verb", "user__username")
    assert list(lines) == [("volume.create", "max"), ("volume.remove", "max"), ("volume.create", "max")]


def test_the_same_form_twice_is_one_volume(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    ask: Callable[[], Operation] = lambda: services.create_volume(  # noqa: E731
        tenant=tenant, actor=member, name="data", size_bytes=None, request_key="once"
    )
    first = ask()
    assert ask() == first
    run(operation=first.id)
    run(operation=first.id)
    assert ask() == first
    assert [one.name for one in engine.volumes.list()] == ["data"]


def test_who_may(tenant: Tenant, member: User, viewer: User, outsider: User, engine: FakeEngine) -> None:
    volume = made(tenant, member)
    for actor, refusal in ((viewer, NotAllowed), (outsider, Missing)):
        with pytest.raises(refusal):
            services.create_volume(tenant=tenant, actor=actor, name="other", size_bytes=None, request_key="o")
        with pytest.raises(refusal):
            services.remove_volume(volume=volume, actor=actor, request_key="r")
    assert Volume.objects.get().state == "ready"


@pytest.mark.parametrize(
    ("name", "size", "field"),
    [("No", None, "name"), ("a" * 64, None, "name"), ("data", None, "name"), ("small", 1, "size"), ("none", 0, "size")],
)
def test_bad_input_names_its_field_and_writes_nothing(
    tenant: Tenant, member: User, engine: FakeEngine, name: str, size: int | None, field: str
) -> None:
    made(tenant, member)
    with pytest.raises(Invalid) as refused:
        services.create_volume(tenant=tenant, actor=member, name=name, size_bytes=size, request_key="bad")
    assert refused.value.field == field
    assert Volume.objects.count() == Operation.objects.count() == 1


def test_one_that_the_node_cannot_make_says_why_and_can_be_taken_away(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    engine.misbehaviour.plan("create_volume", fault="OutOfSpace", times=1)
    volume = made(tenant, member)
    assert volume.state == "failed"
    assert volume.operations.get().error_code == "out_of_space"
    assert removed(volume, member).state == "succeeded"
    assert volume.state == "removed"


def test_a_removal_that_fails_leaves_it_as_it_was(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    volume = made(tenant, member)
    engine.misbehaviour.plan("remove_volume", fault="EngineFault", times=1)
    assert removed(volume, member).state == "failed"
    assert volume.state == "ready"
    assert removed(volume, member).state == "succeeded"


def test_a_removal_whose_worker_is_lost_again_and_again_is_told(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    volume = made(tenant, member)
    operation = services.remove_volume(volume=volume, actor=member, request_key="r")
    past = timezone.now() - operations.LEASE
    Operation.objects.filter(pk=operation.pk).update(
        state="running", worker="dead", attempts=Operation.MAX_ATTEMPTS, lease_until=past
    )
    sweep()
    volume.refresh_from_db()
    assert volume.state == "ready"


# ------------------------------------------------------------------------------------------------ in containers

WITH_DATA = replace(BUSYBOX, mounts=(MountRequest("data", "/data"), MountRequest("data", "/copy", read_only=True)))


def test_a_container_has_it_and_keeps_it(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    volume = made(tenant, member)
    container = launched(tenant, member, WITH_DATA)
    assert container.state == "running"
    assert engine.spec(container.id).volumes == (VolumeMount("data", "/data"), VolumeMount("data", "/copy", True))
    with pytest.raises(Invalid) as refused:
        services.remove_volume(volume=volume, actor=member, request_key="r")
    assert "box" in refused.value.message
    act(container, member, "remove")
    assert removed(volume, member).state == "succeeded"


def test_a_launch_makes_the_volume_that_it_wants(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    mounts = (MountRequest("fresh", "/data", make=True, size_bytes=GIB),)
    container = launched(tenant, member, replace(BUSYBOX, mounts=mounts))
    assert container.state == "running"
    volume = Volume.objects.get(name="fresh")
    assert (volume.state, volume.size_bytes) == ("ready", GIB)
    own = volume.operations.get()
    run(operation=own.id)
    own.refresh_from_db()
    assert own.state == "succeeded", "its own operation finds it made"


def test_a_launch_that_fails_leaves_its_new_volume_to_itself(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    mounts = (MountRequest("fresh", "/data", make=True),)
    container = launched(tenant, member, replace(BUSYBOX, command="no-such-command", mounts=mounts))
    assert container.state == "failed"
    run(operation=Volume.objects.get(name="fresh").operations.get().id)
    assert Volume.objects.get(name="fresh").state == "ready"


@pytest.mark.parametrize(
    "mount",
    [
        MountRequest("nonesuch", "/data"),
        MountRequest("data", "/data", make=True),
        MountRequest("data", "data"),
        MountRequest("data", "/proc/x"),
        MountRequest("data", "/a/../b"),
        MountRequest("data", "/" + "a" * 1000),
        MountRequest("fresh", "/data", make=True, size_bytes=1),
        MountRequest("Fresh", "/data", make=True),
        MountRequest("going", "/data"),
    ],
)
def test_a_mount_that_cannot_be_is_refused_on_its_field(
    tenant: Tenant, member: User, engine: FakeEngine, mount: MountRequest
) -> None:
    made(tenant, member)
    services.remove_volume(volume=made(tenant, member, "going"), actor=member, request_key="going")
    with pytest.raises(Invalid) as refused:
        services.launch(tenant=tenant, actor=member, request=replace(BUSYBOX, mounts=(mount,)), request_key="k")
    assert refused.value.field == "volumes"
    assert not Container.objects.exists()
    assert Volume.objects.count() == 2


def test_no_name_reaches_anothers_volume(tenant: Tenant, member: User, outsider: User, engine: FakeEngine) -> None:
    made(tenant, member)
    theirs = Tenant.objects.get(slug="other")
    with pytest.raises(Invalid):
        services.launch(tenant=theirs, actor=outsider, request=WITH_DATA, request_key="k")


def test_what_the_node_lost_is_not_made_anew_behind_ones_back(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    made(tenant, member)
    engine.volumes.remove(tenant.id, "data")
    container = launched(tenant, member, WITH_DATA)
    assert container.state == "failed"
    assert "no volume" in container.reason
    assert engine.volumes.list() == ()


# ------------------------------------------------------------------------------------------------ truth


def test_rows_and_engine_are_compared(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    kept, lost = made(tenant, member, "kept"), made(tenant, member, "lost")
    engine.volumes.remove(tenant.id, "lost")
    engine.volumes.create(VolumeSpec(tenant.id, "stranger"))
    assert reconcile_rows(engine) == [f"volume {tenant.id}/stranger"]
    kept.refresh_from_db()
    lost.refresh_from_db()
    assert (kept.state, lost.state) == ("ready", "lost")
    assert any("lost the volume lost" in one.sentence for one in selectors.needs_attention(tenant))
    assert engine.volumes.inspect(tenant.id, "stranger"), "it is told, never touched"
    engine.volumes.create(VolumeSpec(tenant.id, "lost", GIB))
    reconcile_rows(engine)
    lost.refresh_from_db()
    assert lost.state == "ready"


def test_one_that_is_being_made_is_not_lost(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    services.create_volume(tenant=tenant, actor=member, name="data", size_bytes=None, request_key="v")
    reconcile_rows(engine)
    assert Volume.objects.get().state == "pending"


def test_one_made_since_the_engine_was_asked_is_not_lost(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    as_of, found = timezone.now(), engine.volumes.list()
    volume = made(tenant, member)
    services.reconcile_volumes(found, as_of)
    volume.refresh_from_db()
    assert volume.state == "ready"


def test_a_removal_that_came_to_its_end_untold_is_found(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    volume = made(tenant, member)
    operation = services.remove_volume(volume=volume, actor=member, request_key="r")
    engine.volumes.remove(tenant.id, "data")
    Operation.objects.filter(pk=operation.pk).update(state="failed", finished_at=timezone.now())
    reconcile_rows(engine)
    volume.refresh_from_db()
    assert volume.state == "removed"
    with pytest.raises(NotFound):
        engine.volumes.inspect(tenant.id, "data")


# ------------------------------------------------------------------------------------------------ quota


def test_a_quota_of_bytes_wants_a_size_of_each(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    made(tenant, member)
    Quota.objects.filter(tenant=tenant).update(volume_bytes=2 * GIB)
    for size in (None, 2 * GIB):
        with pytest.raises(Full) as refused:
            services.create_volume(tenant=tenant, actor=member, name="more", size_bytes=size, request_key="m")
        assert refused.value.field == "size"
        mounts = (MountRequest("more", "/data", make=True, size_bytes=size),)
        with pytest.raises(Full) as refused:
            services.launch(tenant=tenant, actor=member, request=replace(BUSYBOX, mounts=mounts), request_key="k")
        assert refused.value.field == "volumes"
    assert made(tenant, member, "fits").state == "ready"


def test_a_quota_lets_exactly_its_number_in(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    Quota.objects.filter(tenant=tenant).update(volumes=3)
    outcomes: list[str] = []

    def one(number: int) -> None:
        try:
            services.create_volume(
                tenant=tenant, actor=member, name=f"data-{number}", size_bytes=None, request_key=f"v{number}"
            )
        except Full as full:
            outcomes.append(full.field)
        else:
            outcomes.append("in")
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in"] * 3 + ["name"] * 3


def test_a_containers_disk_counts(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member, replace(BUSYBOX, disk_bytes=GIB))
    assert engine.spec(container.id).limits.disk_bytes == GIB
    Quota.objects.filter(tenant=tenant).update(disk_bytes=GIB + 2**25)
    for size in (None, GIB):
        request = replace(BUSYBOX, name="more", disk_bytes=size)
        with pytest.raises(Full) as refused:
            services.launch(tenant=tenant, actor=member, request=request, request_key="m")
        assert refused.value.field == "disk"
    assert launched(tenant, member, replace(BUSYBOX, name="more", disk_bytes=2**25), "fits").state == "running"
