"""Whatever becomes of an operation, its container's row says so, and what two people ask for at once is done once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from console.accounts.models import Tenant, User
from console.core.errors import Invalid
from console.metering.models import MeterEpoch
from console.operations import services as operations
from console.operations import tasks
from console.operations.models import Operation
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container
from console.workloads.services import PortRequest, checking
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, act, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_a_launch_that_fails_in_an_unforeseen_way_is_not_launching_for_ever(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(engine, "create", broken)
    container = launched(tenant, member)
    assert container.state == "failed"
    assert container.reason
    assert container.operations.get().error_code == "engine_fault"
    assert container.events.filter(kind="failed").count() == 1


def test_a_failed_launch_whose_cleaning_fails_too_tells_the_first_reason(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    engine.misbehaviour.plan("remove", fault="DeadlineExceeded")
    container = launched(tenant, member, replace(BUSYBOX, command="no-such-command"))
    assert container.state == "failed"
    assert "no-such-command" in container.reason
    assert container.operations.get().error_field == "command"
    engine.misbehaviour.release("remove")
    assert act(container, member, "remove").state == "succeeded"
    assert engine.list() == ()


def test_a_launch_that_is_given_up_is_a_failed_container(tenant: Tenant, member: User) -> None:
    operation = services.launch(tenant=tenant, actor=member, request=BUSYBOX, request_key="k")
    Operation.objects.update(
        state="running", attempts=Operation.MAX_ATTEMPTS, lease_until=timezone.now() - timedelta(minutes=1)
    )
    tasks.sweep()
    operation.refresh_from_db()
    container = Container.objects.get()
    assert (operation.state, container.state) == ("failed", "failed")
    assert container.reason
    tasks.sweep()
    assert container.events.filter(kind="failed").count() == 1


def test_a_launch_that_was_started_before_its_worker_died_is_running(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    """Given up as an operation, but the container is there: the truth of the engine counts."""
    container = launched(tenant, member)
    Operation.objects.update(
        state="running", attempts=Operation.MAX_ATTEMPTS, lease_until=timezone.now() - timedelta(minutes=1)
    )
    tasks.sweep()
    container.refresh_from_db()
    assert container.state == "running"


def test_a_key_of_another_containers_deed_is_refused(tenant: Tenant, member: User) -> None:
    first, second = launched(tenant, member), launched(tenant, member, replace(BUSYBOX, name="other"), "k2")
    stop = services.act(container=first, actor=member, verb="stop", request_key="stop-1")
    run(operation=stop.id)
    with pytest.raises(Invalid):
        services.act(container=second, actor=member, verb="stop", request_key="stop-1")
    with pytest.raises(Invalid):
        services.act(container=first, actor=member, verb="remove", request_key="stop-1")
    assert services.act(container=first, actor=member, verb="stop", request_key="stop-1") == stop


def test_a_page_that_is_older_than_the_removal_starts_nothing(tenant: Tenant, member: User) -> None:
    stale = launched(tenant, member)
    act(Container.objects.get(), member, "remove")
    with pytest.raises(Invalid, match="removed"):
        services.act(container=stale, actor=member, verb="start", request_key="late")
    assert Container.objects.get().wanted == "removed"


def test_two_deeds_at_once_are_one_and_the_other_is_told(tenant: Tenant, member: User) -> None:
    container = launched(tenant, member)
    services.act(container=container, actor=member, verb="stop", request_key="stop")
    with pytest.raises(Invalid, match="not finished"):
        services.act(container=container, actor=member, verb="restart", request_key="restart")
    assert Container.objects.get().wanted == "stopped"


def test_a_port_that_the_engine_chose_goes_before_a_stopped_containers_wish(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped container holds no port of the node, so the engine may give it to another; its next start is told."""
    wisher = launched(tenant, member, replace(BUSYBOX, ports=(PortRequest(80, 41234),)))
    act(wisher, member, "stop")
    start = engine.start

    def chosen(id: str, **more: object) -> object:
        status = start(id, **more)  # type: ignore[arg-type]
        return replace(status, ports=tuple(replace(port, host_port=41234) for port in status.ports))

    monkeypatch.setattr(engine, "start", chosen)
    other = launched(tenant, member, replace(BUSYBOX, name="other", ports=(PortRequest(80),)), "k2")
    assert (other.state, other.ports.get().host_port) == ("running", 41234)
    assert other.operations.get().state == "succeeded"
    row = wisher.ports.get()
    assert (row.host_port, row.requested_port) == (None, 41234)


def test_a_worker_started_anew_under_the_same_pid_takes_over_at_once(
    tenant: Tenant, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container every worker has the same pid."""
    operation = services.launch(tenant=tenant, actor=member, request=BUSYBOX, request_key="k")
    assert operations.claim(operation.id, tasks.worker_name(start="before"))
    tasks.take_over()
    run(operation=operation.id)
    operation.refresh_from_db()
    assert operation.state == "succeeded"


def test_one_port_and_two_tenants_at_once_is_one_launch_and_one_sentence(
    tenant: Tenant, member: User, outsider: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looks before the first has written, as on PostgreSQL it can: the index decides."""
    wanted = replace(BUSYBOX, ports=(PortRequest(80, 41235),))
    services.launch(tenant=tenant, actor=member, request=wanted, request_key="first")
    look, looks = checking._port_owner, []

    def too_early(port: PortRequest) -> object:
        looks.append(port)
        return None if len(looks) == 1 else look(port)

    monkeypatch.setattr(checking, "_port_owner", too_early)
    theirs = outsider.tenants.get()
    with pytest.raises(Invalid, match="41235") as caught:
        services.launch(tenant=theirs, actor=outsider, request=wanted, request_key="second")
    assert caught.value.field == "ports"
    assert Container.objects.of(theirs).count() == Operation.objects.of(theirs).count() == 0


def test_what_is_damaged_on_the_node_is_not_billed_as_lost_before_it_is_gone(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    """Its removal by force stores a final reading, which an epoch that has ended would not take in any more."""
    container = launched(tenant, member)
    earlier = timezone.now() - timedelta(hours=1)
    MeterEpoch.objects.update(started_at=earlier)
    (engine.home.container(container.pk) / "status.json").write_text("{")
    tasks.reconcile()
    assert MeterEpoch.objects.get().ended_at is None
    engine.remove(container.pk, force=True)  # somebody else's, and the fake knows no counters of it
    tasks.reconcile()
    assert MeterEpoch.objects.get().lost
