"""What is changed of a container that is there: frozen, other limits, another name; and the options that it was launched with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from console.accounts.models import Quota, Tenant, User
from console.core.errors import Full, Invalid, Missing, NotAllowed
from console.operations.models import Operation
from console.operations.reconciling import reconcile_rows
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container
from console.workloads.services import LimitsRequest
from runtime.api import HealthCheck
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, act, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
MIB = 2**20
LARGER = LimitsRequest(128 * MIB, 700, 100)


def updated(container: Container, actor: User, limits: LimitsRequest = LARGER) -> Operation:
    operation = services.update_limits(
        container=container, actor=actor, limits=limits, request_key=f"u{Operation.objects.count()}"
    )
    run(operation=operation.id)
    operation.refresh_from_db()
    container.refresh_from_db()
    return operation


def renamed(container: Container, actor: User, name: str) -> Operation:
    operation = services.rename(
        container=container, actor=actor, name=name, request_key=f"n{Operation.objects.count()}"
    )
    run(operation=operation.id)
    operation.refresh_from_db()
    container.refresh_from_db()
    return operation


def kinds(container: Container) -> list[str]:
    return list(container.events.order_by("pk").values_list("kind", flat=True))


def test_pause_and_resume(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    assert act(container, member, "pause").state == "succeeded"
    container.refresh_from_db()
    assert (container.state, container.paused, container.wanted) == ("running", True, "running")
    assert engine.inspect(container.id).paused
    assert act(container, member, "resume").state == "succeeded"
    container.refresh_from_db()
    assert not container.paused
    assert kinds(container) == ["created", "started", "paused", "resumed"]
    assert list(container.events.filter(kind="paused").values_list("actor__username", flat=True)) == ["max"]


def test_a_stop_ends_what_is_paused(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    act(container, member, "pause")
    act(container, member, "stop")
    container.refresh_from_db()
    assert (container.state, container.paused) == ("exited", False)
    with pytest.raises(Invalid):
        services.act(container=container, actor=member, verb="pause", request_key="p")
    act(container, member, "start")
    assert kinds(container)[-2:] == ["exited", "started"]


def test_other_limits(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member, replace(BUSYBOX, disk_bytes=64 * MIB))
    assert updated(container, member).state == "succeeded"
    limits = engine.spec(container.id).limits
    assert (limits.memory_bytes, limits.cpu_millis, limits.pids) == (128 * MIB, 700, 100)
    assert limits.disk_bytes == 64 * MIB, "what was not asked for stays"
    assert (container.memory_bytes, container.cpu_millis, container.pids) == (128 * MIB, 700, 100)
    event = container.events.get(kind="updated")
    assert (event.data["before"]["memory_bytes"], event.data["after"]["memory_bytes"]) == (64 * MIB, 128 * MIB)
    assert [size.limits.memory_bytes for size in engine.inspect(container.id).sizes] == [128 * MIB]


def test_limits_that_the_engine_refuses_change_nothing(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.engines.fake.controls import FakeControls
    from runtime.errors import Conflict

    container = launched(tenant, member)

    def refused(*_: object) -> None:
        raise Conflict("The container uses more memory than that.", field="limits.memory_bytes")

    monkeypatch.setattr(FakeControls, "update", refused)
    assert updated(container, member).state == "failed"
    assert container.memory_bytes == BUSYBOX.memory_bytes
    assert "updated" not in kinds(container)


def test_larger_limits_are_taken_from_the_quota_from_the_start(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    container = launched(tenant, member)
    Quota.objects.filter(tenant=tenant).update(memory_bytes=140 * MIB)
    with pytest.raises(Full) as refused:
        updated(container, member, replace(LARGER, memory_bytes=141 * MIB))
    assert refused.value.field == "memory"
    services.update_limits(container=container, actor=member, limits=LARGER, request_key="u")  # not done yet
    with pytest.raises(Full):
        launched(tenant, member, replace(BUSYBOX, name="more", memory_bytes=16 * MIB), "more")
    assert launched(tenant, member, replace(BUSYBOX, name="fits", memory_bytes=12 * MIB), "fits").state == "running"


def test_smaller_limits_are_let_in_also_over_the_quota(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    Quota.objects.filter(tenant=tenant).update(memory_bytes=1, cpu_millis=1)
    assert updated(container, member, LimitsRequest(32 * MIB, 100, 50)).state == "succeeded"


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        (replace(LARGER, memory_bytes=1), "memory"),
        (replace(LARGER, memory_bytes=2**60), "memory"),
        (replace(LARGER, cpu_millis=10**9), "cpu"),
        (replace(LARGER, pids=1), "pids"),
        (LimitsRequest(BUSYBOX.memory_bytes, BUSYBOX.cpu_millis, BUSYBOX.pids), ""),
    ],
)
def test_limits_that_cannot_be_are_refused_on_their_field(
    tenant: Tenant, member: User, engine: FakeEngine, limits: LimitsRequest, field: str
) -> None:
    container = launched(tenant, member)
    with pytest.raises(Invalid) as refused:
        updated(container, member, limits)
    assert refused.value.field == field
    assert not Operation.objects.filter(kind="update").exists()


def test_another_name(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    other = launched(tenant, member, replace(BUSYBOX, name="other"), "other")
    assert renamed(container, member, "new").state == "succeeded"
    assert (container.name, engine.inspect(container.id).name) == ("new", "new")
    assert container.events.get(kind="renamed").data == {"before": "box", "after": "new"}
    for name in ("new", "other", "Bad"):
        with pytest.raises(Invalid) as refused:
            renamed(other, member, name)
        assert refused.value.field == "name"
        other.refresh_from_db()
    assert launched(tenant, member, BUSYBOX, "again").state == "running", "the old name is free"


def test_a_name_is_taken_while_its_rename_waits(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    services.rename(container=container, actor=member, name="new", request_key="n")
    with pytest.raises(Invalid):
        launched(tenant, member, replace(BUSYBOX, name="new"), "new")
    assert services.suggest_name(tenant, "new") == "new-2"


def test_what_never_was_in_the_engine_changes_by_its_row(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member, replace(BUSYBOX, command="no-such-command"))
    assert container.state == "failed"
    assert renamed(container, member, "new").state == "succeeded"
    assert updated(container, member).state == "succeeded"
    assert (container.name, container.memory_bytes) == ("new", 128 * MIB)


def test_who_may(tenant: Tenant, member: User, viewer: User, outsider: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    for actor, refusal in ((viewer, NotAllowed), (outsider, Missing)):
        with pytest.raises(refusal):
            services.update_limits(container=container, actor=actor, limits=LARGER, request_key="u")
        with pytest.raises(refusal):
            services.rename(container=container, actor=actor, name="new", request_key="n")
        with pytest.raises(refusal):
            services.act(container=container, actor=actor, verb="pause", request_key="p")


def test_what_was_changed_at_a_shell_is_found(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    limits = replace(engine.spec(container.id).limits, memory_bytes=100 * MIB)
    engine.controls.update(container.id, limits)
    engine.controls.rename(container.id, "shell")
    engine.controls.pause(container.id)
    assert reconcile_rows(engine) == []
    container.refresh_from_db()
    assert (container.name, container.memory_bytes, container.paused) == ("shell", 100 * MIB, True)
    reconcile_rows(engine)
    assert sorted(kinds(container))[-2:] == ["started", "updated"]
    assert kinds(container).count("renamed") == 1


def test_one_that_is_damaged_hides_no_change_of_another(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    broken = launched(tenant, member, replace(BUSYBOX, name="broken"), "broken")
    container = launched(tenant, member)
    engine.controls.rename(container.id, "shell")
    (engine.home.container(broken.id) / "spec.json").write_bytes(b"{")
    assert reconcile_rows(engine) == []
    container.refresh_from_db()
    assert container.name == "shell"


CHECK = HealthCheck("http", port=80, path="/ready", interval_s=5, timeout_s=2, retries=2, start_period_s=10)


def test_options_reach_the_engine(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    request = replace(
        BUSYBOX, labels={"team": "web", "": ""} | {"tier": "1"}, health=CHECK, entrypoint="sh -c", command="'sleep 100'",
        user="daemon", working_dir="/srv", hostname="host", read_only=True, init=False, disk_bytes=32 * MIB,
    )  # fmt: skip
    with pytest.raises(Invalid):
        services.launch(tenant=tenant, actor=member, request=request, request_key="k")  # a label without a name
    request = replace(request, labels={"team": "web", "tier": "1"}, command="sleep 100")
    container = launched(tenant, member, request)
    spec = engine.spec(container.id)
    assert dict(spec.labels) == {"team": "web", "tier": "1"}
    assert spec.health == CHECK
    assert (spec.entrypoint, spec.user, spec.working_dir, spec.hostname) == (("sh", "-c"), "daemon", "/srv", "host")
    assert (spec.read_only, spec.init, spec.limits.disk_bytes) == (True, False, 32 * MIB)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"labels": {"x" * 129: ""}}, "labels"),
        ({"labels": {"a": "b" * 70_000}}, "labels"),
        ({"labels": {"a": "\0"}}, "labels"),
        ({"disk_bytes": 1}, "disk"),
        ({"health": HealthCheck("tcp")}, "health"),
        ({"health": HealthCheck("command")}, "health"),
        ({"health": replace(CHECK, interval_s=0)}, "health"),
        ({"entrypoint": "'"}, "entrypoint"),
        ({"hostname": "Bad Host"}, "hostname"),
        ({"working_dir": "srv"}, "working_dir"),
        ({"user": "a\0"}, "user"),
        ({"user": "a" * 101}, "user"),
        ({"pids": 1}, "pids"),
    ],
)
def test_options_that_cannot_be_are_refused_on_their_field(
    tenant: Tenant, member: User, engine: FakeEngine, options: dict[str, object], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        services.launch(tenant=tenant, actor=member, request=replace(BUSYBOX, **options), request_key="k")  # type: ignore[arg-type]
    assert refused.value.field == field
    assert not Container.objects.exists()
