"""What waits for another operation on the same container, and what is cancelled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from console.accounts.models import AuditEvent, Tenant, User
from console.core.errors import Invalid, Missing
from console.operations import services as operations
from console.operations.models import Operation
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container
from runtime.api import ContainerSpec, ContainerStatus, Step
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, act, engine, launched

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["engine"]


def _launch(tenant: Tenant, member: User) -> Operation:
    return services.launch(tenant=tenant, actor=member, request=BUSYBOX, request_key="launch")


def _asked(container: Container, member: User, verb: str) -> Operation:
    return services.act(container=container, actor=member, verb=verb, request_key=f"{verb}-asked")


def _in_the_middle(monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, deed: Callable[[], object]) -> None:
    """``deed`` happens once, while the engine creates a container."""
    create = engine.create

    def creating(spec: ContainerSpec, *, progress: Callable[[Step], None]) -> ContainerStatus:
        monkeypatch.setattr(engine, "create", create)
        deed()
        progress(Step("create"))
        return create(spec, progress=progress)

    monkeypatch.setattr(engine, "create", creating)


def _state(operation: Operation) -> str:
    operation.refresh_from_db()
    return operation.state


def test_a_launch_that_is_cancelled_before_it_began_never_begins(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    launch = _launch(tenant, member)
    operations.cancel(launch, actor=member)
    run(operation=launch.id)
    assert _state(launch) == Operation.State.CANCELLED
    container = Container.objects.get()
    assert (container.state, container.reason) == (Container.State.FAILED, "It was cancelled.")
    assert engine.list() == ()
    assert AuditEvent.objects.filter(verb="operation.cancel", user=member, target=launch.id).exists()


def test_a_launch_that_is_cancelled_half_way_leaves_nothing_and_can_be_started_again(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = _launch(tenant, member)
    _in_the_middle(monkeypatch, engine, lambda: operations.cancel(launch, actor=member))
    run(operation=launch.id)
    assert _state(launch) == Operation.State.CANCELLED
    assert engine.list() == ()
    again = act(Container.objects.get(), member, "start")
    assert again.state == Operation.State.SUCCEEDED
    assert Container.objects.get().state == Container.State.RUNNING


def test_removing_what_is_being_launched_cancels_the_launch(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = _launch(tenant, member)
    container = Container.objects.get()
    removals: list[Operation] = []
    _in_the_middle(monkeypatch, engine, lambda: removals.append(_asked(container, member, "remove")))
    run(operation=launch.id)
    assert _state(launch) == Operation.State.CANCELLED
    run(operation=removals[0].id)
    assert _state(removals[0]) == Operation.State.SUCCEEDED
    assert Container.objects.get().state == Container.State.REMOVED
    assert engine.list() == ()


def test_a_removal_before_the_launch_began_takes_its_place(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    launch = _launch(tenant, member)
    removal = _asked(Container.objects.get(), member, "remove")
    run(operation=launch.id)
    run(operation=removal.id)
    assert (_state(launch), _state(removal)) == (Operation.State.CANCELLED, Operation.State.SUCCEEDED)
    assert engine.list() == ()


def test_what_is_asked_meanwhile_waits_and_is_rung_for_at_the_end(
    tenant: Tenant, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = launched(tenant, member)
    restart = _asked(container, member, "restart")
    assert operations.claim(restart.id, "w1") is not None
    restart.refresh_from_db()
    stop = _asked(container, member, "stop")
    assert operations.claim(stop.id, "w2") is None
    rung: list[str] = []
    monkeypatch.setattr(operations, "ring", lambda id, _node: rung.append(id))
    assert operations.succeed(restart)
    assert rung == [stop.id]
    assert operations.claim(stop.id, "w2") is not None


def test_one_waits_not_two_and_the_same_never_twice(tenant: Tenant, member: User) -> None:
    container = launched(tenant, member)
    restart = _asked(container, member, "restart")
    assert operations.claim(restart.id, "w1") is not None
    with pytest.raises(Invalid, match="being done already"):
        services.act(container=container, actor=member, verb="restart", request_key="another form")
    stop = _asked(container, member, "stop")
    with pytest.raises(Invalid, match="not finished yet"):
        _asked(container, member, "start")
    removal = _asked(container, member, "remove")  # of what is to go, nothing else is wanted any more
    assert (_state(stop), _state(removal)) == (Operation.State.CANCELLED, Operation.State.QUEUED)
    assert _state(restart) == Operation.State.RUNNING


def test_what_cannot_be_cancelled_says_so(tenant: Tenant, member: User, outsider: User, admin: User) -> None:
    container = launched(tenant, member)
    done = Operation.objects.get()
    with pytest.raises(Invalid, match="ended already"):
        operations.cancel(done, actor=member)
    stop = _asked(container, member, "stop")
    with pytest.raises(Invalid, match="done in a moment"):
        operations.cancel(stop, actor=member)
    with pytest.raises(Missing):
        operations.cancel(stop, actor=outsider)
    build = operations.submit(
        tenant=None, actor=admin, kind=Operation.Kind.BUILD, node="node", params={"recipe": "nginx"}, request_key="b"
    )
    with pytest.raises(Missing):
        operations.cancel(build, actor=member)
    operations.cancel(build, actor=admin)
    run(operation=build.id)
    assert _state(build) == Operation.State.CANCELLED


def test_the_page_offers_it_and_shows_that_it_is_on_its_way(tenant: Tenant, member: User, client: Client) -> None:
    launch = _launch(tenant, member)
    client.force_login(member)
    page = f"/containers/{launch.container_id}/status/"
    assert f"/operations/{launch.id}/cancel/" in client.get(page).content.decode()
    client.post(f"/operations/{launch.id}/cancel/")
    shown = client.get(page).content.decode()
    assert "Cancelling" in shown
    assert f"/operations/{launch.id}/cancel/" not in shown
