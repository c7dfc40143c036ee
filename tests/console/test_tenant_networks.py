"""Networks of a tenant: made, joined and removed by named people; and what the engine says of them."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
from django.apps import apps

from console.accounts.models import Quota, Tenant, User
from console.core.errors import Full, Invalid, Missing, NotAllowed
from console.operations.models import Operation
from console.operations.reconciling import reconcile_rows
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container, Network
from console.workloads.services import NetworkRequest, PortRequest
from runtime.api import Attachment, NetworkSpec
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, act, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)


def made(tenant: Tenant, actor: User, name: str = "back", *, internal: bool = False, ipv6: bool = False) -> Network:
    operation = services.create_network(
        tenant=tenant,
        actor=actor,
        name=name,
        internal=internal,
        ipv6=ipv6,
        request_key=f"n{Operation.objects.count()}-{name}",
    )
    run(operation=operation.id)
    return Network.objects.get(tenant=tenant, name=name, removed_at=None)


def removed(network: Network, actor: User) -> Operation:
    operation = services.remove_network(network=network, actor=actor, request_key=f"r{Operation.objects.count()}")
    run(operation=operation.id)
    operation.refresh_from_db()
    network.refresh_from_db()
    return operation


def test_from_making_to_removal(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    network = made(tenant, member, internal=True, ipv6=True)
    found = engine.networks.inspect(tenant.id, "back")
    assert found.internal
    assert (network.state, network.subnet, network.gateway) == ("ready", found.subnet, found.gateway)
    assert network.subnet6 == found.subnet6 != ""
    assert removed(network, member).state == "succeeded"
    assert network.state == "removed"
    assert made(tenant, member).pk != network.pk


def test_who_may(tenant: Tenant, member: User, viewer: User, outsider: User, engine: FakeEngine) -> None:
    network = made(tenant, member)
    for actor, refusal in ((viewer, NotAllowed), (outsider, Missing)):
        with pytest.raises(refusal):
            services.create_network(tenant=tenant, actor=actor, name="other", request_key="o")
        with pytest.raises(refusal):
            services.remove_network(network=network, actor=actor, request_key="r")
    assert Network.objects.get().state == "ready"


@pytest.mark.parametrize("name", ["No", "a" * 64, "default", "back"])
def test_bad_names_are_refused(tenant: Tenant, member: User, engine: FakeEngine, name: str) -> None:
    made(tenant, member)
    with pytest.raises(Invalid) as refused:
        services.create_network(tenant=tenant, actor=member, name=name, request_key="bad")
    assert refused.value.field == "name"
    assert Network.objects.count() == 1


def test_a_quota(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    Quota.objects.filter(tenant=tenant).update(networks=1)
    launched(tenant, member)  # on default, which does not count
    made(tenant, member)
    with pytest.raises(Full):
        made(tenant, member, "more")


def test_a_container_is_on_several_and_keeps_them(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    network = made(tenant, member)
    places = (NetworkRequest("default"), NetworkRequest("back", ("db",)))
    container = launched(tenant, member, replace(BUSYBOX, networks=places))
    assert engine.spec(container.id).networks == (Attachment("default"), Attachment("back", aliases=("db",)))
    told = {one.network: one for one in engine.inspect(container.id).networks}
    rows = list(container.attachments.select_related("network"))
    assert [(row.network.name, row.address, row.interface) for row in rows] == [
        (name, told[name].address, told[name].interface) for name in ("default", "back")
    ]
    default = Network.objects.get(name="default")
    assert default.subnet == engine.networks.inspect(tenant.id, "default").subnet
    with pytest.raises(Invalid) as refused:
        services.remove_network(network=network, actor=member, request_key="r")
    assert "box" in refused.value.message
    act(container, member, "stop")
    assert set(container.attachments.values_list("address", flat=True)) == {None}
    act(container, member, "remove")
    assert removed(network, member).state == "succeeded"


def test_default_stays(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    assert engine.spec(container.id).networks == ()
    act(container, member, "remove")
    with pytest.raises(Invalid):
        services.remove_network(network=Network.objects.get(name="default"), actor=member, request_key="r")


def test_a_launch_makes_what_is_not_made_yet(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    services.create_network(tenant=tenant, actor=member, name="back", request_key="n")
    container = launched(tenant, member, replace(BUSYBOX, networks=(NetworkRequest("back"),)))
    assert container.state == "running"
    assert Network.objects.get(name="back").state == "ready"


@pytest.mark.parametrize(
    ("places", "ports"),
    [
        ((NetworkRequest("nonesuch"),), ()),
        ((NetworkRequest("back"), NetworkRequest("back")), ()),
        ((NetworkRequest("back", ("Bad Alias",)),), ()),
        ((NetworkRequest("inside"),), (PortRequest(80),)),
        (tuple(NetworkRequest(f"n{number}") for number in range(9)), ()),
    ],
)
def test_places_that_cannot_be_are_refused_on_their_field(
    tenant: Tenant, member: User, engine: FakeEngine, places: tuple[NetworkRequest, ...], ports: tuple[PortRequest, ...]
) -> None:
    made(tenant, member)
    made(tenant, member, "inside", internal=True)
    request = replace(BUSYBOX, networks=places, ports=ports)
    with pytest.raises(Invalid) as refused:
        services.launch(tenant=tenant, actor=member, request=request, request_key="k")
    assert refused.value.field == "networks"
    assert not Container.objects.exists()


def test_rows_and_engine_are_compared(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    launched(tenant, member)
    network = made(tenant, member)
    engine.networks.remove(tenant.id, "back")
    engine.networks.create(NetworkSpec(tenant.id, "stranger"))
    assert reconcile_rows(engine) == [f"network {tenant.id}/stranger"]
    network.refresh_from_db()
    assert network.state == "lost"
    assert Network.objects.get(name="default").state == "ready"


def test_what_ran_before_there_were_rows_for_it_gets_them(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    container.attachments.all().delete()
    Network.objects.all().delete()
    act(container, member, "restart")
    assert container.attachments.get().address == engine.inspect(container.id).address


def test_containers_from_before_networks_had_rows_are_on_default(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    """The migration's own step, over today's models: twice is once."""
    migration = importlib.import_module("console.workloads.migrations.0004_places_on_default")
    container = launched(tenant, member)
    address = container.attachments.get().address
    container.attachments.all().delete()
    Network.objects.all().delete()
    for _time in range(2):
        migration.put_on_default(apps, None)
    place = container.attachments.get()
    assert (place.network.name, place.network.state, place.address) == ("default", "ready", address)
