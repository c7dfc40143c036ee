"""Launching and operating, with the fake engine: what is refused, what is written, what comes back."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from console.accounts.models import Quota, Tenant, User
from console.core.errors import Full, Invalid, Missing, NotAllowed
from console.metering.models import MeterEpoch, UsageRecord
from console.metering.selectors.usage import usage
from console.operations import services as operations
from console.operations.models import Operation
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container, ContainerEvent
from console.workloads.services import PortRequest
from runtime.api import State
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, act, engine, launched

__all__ = ["engine"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_consoles_own_port_is_nobodys_to_publish(tenant: Tenant, member: User, settings: Any) -> None:
    """Whoever has it while the console starts anew is asked for the passwords of all who sign in then."""
    settings.PORT = 8123
    wanted = replace(BUSYBOX, ports=(PortRequest(80, 8123),))
    with pytest.raises(Invalid) as refused:
        services.launch(tenant=tenant, actor=member, request=wanted, request_key="own")
    assert refused.value.field == "ports"
    services.launch(
        tenant=tenant, actor=member, request=replace(BUSYBOX, ports=(PortRequest(80, 8123, "udp"),)), request_key="udp"
    )


def test_from_launch_to_removal(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member, replace(BUSYBOX, ports=(PortRequest(80),)))
    assert (container.state, container.epoch) == ("running", 1)
    assert container.ports.get().host_port
    assert act(container, member, "stop").state == "succeeded"
    container.refresh_from_db()
    assert (container.state, container.exit_code) == ("exited", 143)
    act(container, member, "start")
    act(container, member, "remove")
    container.refresh_from_db()
    assert container.state == "removed"
    assert container.removed_at
    assert engine.list() == ()
    kinds = list(ContainerEvent.objects.filter(container=container).order_by("pk").values_list("kind", flat=True))
    assert kinds == ["created", "started", "stopping", "exited", "started", "removed"]
    assert MeterEpoch.objects.filter(container=container, ended_at__isnull=False).count() == 2
    assert engine.final_readings() == ()
    assert UsageRecord.objects.filter(meter="cpu").count() >= 2


@pytest.mark.parametrize("by", ["hour", "day", "month", "total"])
def test_a_port_that_was_held_is_no_row_of_a_container(
    tenant: Tenant, member: User, engine: FakeEngine, by: str
) -> None:
    container = launched(tenant, member, replace(BUSYBOX, ports=(PortRequest(80),)))
    act(container, member, "stop")
    assert UsageRecord.objects.filter(tenant=tenant, epoch__isnull=True).exists(), "the port has records of its own"
    now = timezone.now()
    rows = usage(tenant, now - timedelta(days=40), now + timedelta(days=40), by=by)  # type: ignore[arg-type]
    assert {row.container_id for row in rows} == {container.id}


def test_the_same_form_twice_is_one_launch(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    first = services.launch(tenant=tenant, actor=member, request=BUSYBOX, request_key="once")
    second = services.launch(tenant=tenant, actor=member, request=BUSYBOX, request_key="once")
    assert first == second
    run(operation=first.id)
    run(operation=first.id)
    assert [status.name for status in engine.list()] == ["box"]


def test_who_may_launch(tenant: Tenant, viewer: User, outsider: User) -> None:
    with pytest.raises(NotAllowed):
        services.launch(tenant=tenant, actor=viewer, request=BUSYBOX, request_key="v")
    with pytest.raises(Missing):
        services.launch(tenant=tenant, actor=outsider, request=BUSYBOX, request_key="o")
    assert Container.objects.count() == 0


def test_an_outsider_operates_nothing(tenant: Tenant, member: User, outsider: User, viewer: User) -> None:
    container = launched(tenant, member)
    for verb in services.VERBS:
        with pytest.raises(Missing):
            services.act(container=container, actor=outsider, verb=verb, request_key=f"o{verb}")
        with pytest.raises(NotAllowed):
            services.act(container=container, actor=viewer, verb=verb, request_key=f"v{verb}")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "No"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"recipe": "nonesuch"}, "image"),
        ({"recipe": "", "image": "Bad Image"}, "image"),
        ({"command": "echo 'open"}, "command"),
        ({"environment": {"1x": ""}}, "environment"),
        ({"ports": (PortRequest(0),)}, "ports"),
        ({"ports": (PortRequest(80, 70000),)}, "ports"),
        ({"ports": (PortRequest(80, 0),)}, "ports"),
        ({"ports": (PortRequest(80, 8080), PortRequest(81, 8080))}, "ports"),
        ({"memory_bytes": 1}, "memory"),
        ({"memory_bytes": 1 << 60}, "memory"),
        ({"cpu_millis": 10**9}, "cpu"),
        ({"pids": 0}, "pids"),
    ],
)
def test_bad_input_names_its_field_and_writes_nothing(
    tenant: Tenant, member: User, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        services.launch(tenant=tenant, actor=member, request=replace(BUSYBOX, **changes), request_key="bad")  # type: ignore[arg-type]
    assert caught.value.field == field
    assert Container.objects.count() == Operation.objects.count() == 0


def test_a_name_and_a_port_are_free_again_after_removal(tenant: Tenant, member: User) -> None:
    wanted = replace(BUSYBOX, ports=(PortRequest(80, 34567),))
    container = launched(tenant, member, wanted)
    for taken, field in ((replace(wanted, ports=()), "name"), (replace(wanted, name="other"), "ports")):
        with pytest.raises(Invalid) as caught:
            services.launch(tenant=tenant, actor=member, request=taken, request_key=field)
        assert caught.value.field == field
    act(container, member, "remove")
    assert launched(tenant, member, wanted, "again").state == "running"


def test_a_failed_launch_says_why_and_leaves_nothing(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member, replace(BUSYBOX, command="no-such-command"))
    assert container.state == "failed"
    assert "no-such-command" in container.reason
    operation = container.operations.get()
    assert (operation.state, operation.error_field) == ("failed", "command")
    assert engine.list() == ()
    assert act(container, member, "remove").state == "succeeded"


def test_an_image_of_another_architecture(tenant: Tenant, member: User) -> None:
    container = launched(tenant, member, replace(BUSYBOX, recipe="", image="registry.example.org/otherarch/app:1"))
    assert container.state == "failed"
    assert container.operations.get().error_code == "image_unsuitable"


def test_a_quota_lets_exactly_its_number_in(tenant: Tenant, member: User) -> None:
    Quota.objects.filter(tenant=tenant).update(containers=3)
    outcomes: list[str] = []

    def one(number: int) -> None:
        try:
            services.launch(
                tenant=tenant, actor=member, request=replace(BUSYBOX, name=f"box-{number}"), request_key=f"q{number}"
            )
        except Full as full:
            outcomes.append(full.field)
        else:
            outcomes.append("in")
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in"] * 3 + ["name"] * 5
    assert Container.objects.count() == 3


def test_memory_and_cpu_quotas(tenant: Tenant, member: User) -> None:
    Quota.objects.filter(tenant=tenant).update(memory_bytes=100 << 20, cpu_millis=600)
    services.launch(tenant=tenant, actor=member, request=BUSYBOX, request_key="1")
    for request, field in (
        (replace(BUSYBOX, name="b", cpu_millis=10), "memory"),
        (replace(BUSYBOX, name="b", memory_bytes=8 << 20), "cpu"),
    ):
        with pytest.raises(Full) as caught:
            services.launch(tenant=tenant, actor=member, request=request, request_key=field)
        assert caught.value.field == field


def test_truth_never_goes_backwards(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    first = engine.inspect(container.id)
    act(container, member, "restart")
    services.observe(first)
    services.observe(replace(first, state=State.EXITED, exit_code=1))
    container.refresh_from_db()
    assert (container.state, container.epoch) == ("running", 2)


def test_what_the_engine_lost_is_told(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    engine.lose(container.id)
    assert services.reconcile(engine.list()) == []
    container.refresh_from_db()
    assert container.state == "failed"
    assert container.events.filter(kind="lost").exists()


def test_reconciling_touches_no_stranger(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    spec = engine.spec(container.id)
    engine.create(replace(spec, id="cstranger", name="stranger"))
    engine.start("cstranger")
    assert "cstranger" in services.reconcile(engine.list())
    assert engine.inspect("cstranger").state is State.RUNNING


def test_a_lost_workers_operation_is_done_by_the_next(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    operation = services.launch(tenant=tenant, actor=member, request=BUSYBOX, request_key="k")
    assert operations.claim(operation.id, "dead worker")
    run(operation=operation.id)
    operation.refresh_from_db()
    assert operation.state == "running"
    assert operations.release_leases(operation.node, "new worker") == 1
    run(operation=operation.id)
    operation.refresh_from_db()
    assert operation.state == "succeeded"
    assert len(engine.list()) == 1


REMOTE = replace(BUSYBOX, recipe="", image="registry.example.org/apps/web:1")


@pytest.fixture
def cut_short(tenant: Tenant, member: User, monkeypatch: pytest.MonkeyPatch) -> Operation:
    """A launch whose worker is killed once the engine has started the container and before anybody was told."""
    operation = services.launch(tenant=tenant, actor=member, request=REMOTE, request_key="k")

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(services, "observe", killed)
        with pytest.raises(SystemExit):
            run(operation=operation.id)
    operations.release_leases(operation.node, "new worker")
    return operation


def test_a_launch_that_was_started_is_not_begun_again(cut_short: Operation, engine: FakeEngine) -> None:
    """Not even its image is asked for: the registry may be down by now, and the container runs."""
    engine.misbehaviour.plan("pull", fault="ImageUnavailable")
    (before,) = engine.list()
    assert before.state is State.RUNNING
    run(operation=cut_short.id)
    cut_short.refresh_from_db()
    assert cut_short.state == "succeeded"
    assert engine.list() == (before,)
    assert Container.objects.get(pk=before.id).state == "running"


def test_a_launch_that_ended_before_it_was_told_has_happened(cut_short: Operation, engine: FakeEngine) -> None:
    (before,) = engine.list()
    engine.crash(before.id, 3)
    run(operation=cut_short.id)
    container = Container.objects.get(pk=before.id)
    assert (container.state, container.exit_code, container.epoch) == ("exited", 3, 1)
    assert engine.inspect(before.id).epoch == 1


def test_a_launch_that_was_created_goes_on_with_what_it_has(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = services.launch(tenant=tenant, actor=member, request=REMOTE, request_key="k")

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(FakeEngine, "start", killed)
        with pytest.raises(SystemExit):
            run(operation=operation.id)
    operations.release_leases(operation.node, "new worker")
    engine.misbehaviour.plan("pull", fault="ImageUnavailable")
    run(operation=operation.id)
    assert Container.objects.get(pk=operation.container_id).state == "running"


def test_a_launch_that_the_node_refuses_in_an_unforeseen_way_leaves_nothing(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(FakeEngine, "start", refused)
    container = launched(tenant, member)
    assert container.state == "failed"
    assert "unforeseen" in container.reason
    assert engine.list() == ()
