"""A container's fixed address on a network: asked for at launch or in connecting, one's own within the tenant, and as the engine has it."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from console.accounts.models import AuditEvent, Quota, Tenant, User
from console.core.errors import Invalid, Missing, NotAllowed
from console.operations.models import Operation
from console.operations.reconciling import reconcile_rows
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container, Network
from console.workloads.services import LaunchRequest, NetworkRequest, addresses
from runtime.api import Attachment
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, act, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
WITHIN_S = 60
HELD_S = 2
"""How long the first of two waits, uncommitted, for the second to be let in, too."""


def made(tenant: Tenant, actor: User, name: str = "back", **options: bool) -> Network:
    operation = services.create_network(tenant=tenant, actor=actor, name=name, request_key=f"net-{name}", **options)
    run(operation=operation.id)
    return Network.objects.get(tenant=tenant, name=name, removed_at=None)


@pytest.fixture
def back(tenant: Tenant, member: User) -> Network:
    return made(tenant, member, ipv6=True)


def at(network: Network, number: int, *, six: bool = False) -> str:
    """The address of that number in its subnet."""
    return str(ipaddress.ip_network(network.subnet6 if six else network.subnet)[number])


def asking(network: Network, number: int, name: str = "box", **more: str) -> LaunchRequest:
    """A launch at that address."""
    return replace(BUSYBOX, name=name, networks=(NetworkRequest(network.name, address=at(network, number), **more),))


def key() -> str:
    return f"k{Operation.objects.count()}"


def connected(container: Container, actor: User, asked: NetworkRequest) -> Operation:
    operation = services.connect(container=container, actor=actor, asked=asked, request_key=key())
    run(operation=operation.id)
    operation.refresh_from_db()
    return operation


def refused(tenant: Tenant, actor: User, request: LaunchRequest) -> str:
    with pytest.raises(Invalid) as caught:
        services.launch(tenant=tenant, actor=actor, request=request, request_key=key())
    assert caught.value.field == "networks"
    return str(caught.value.message)


def test_a_launch_has_the_address_that_it_asked_for_and_keeps_it(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    four, six = at(back, 77), at(back, 0x7777, six=True)
    shouted = six.upper().replace("::", ":0:0::" if six.count(":") < 6 else "::")
    request = replace(BUSYBOX, networks=(NetworkRequest("back", ("db",), four, shouted),))
    container = launched(tenant, member, request)
    assert container.state == "running", container.reason
    place = container.attachments.get()
    assert (place.requested_address, place.requested_address6) == (place.address, place.address6) == (four, six)
    assert engine.spec(container.id).networks == (Attachment("back", four, six, ("db",)),)
    assert services.spec(container).networks == engine.spec(container.id).networks
    act(container, member, "stop")
    place.refresh_from_db()
    assert (place.requested_address, place.address) == (four, None)
    act(container, member, "start")
    assert engine.inspect(container.id).address == four
    said = AuditEvent.objects.get(verb="container.launch", target=container.id)
    assert said.data["addresses"] == {"back": [four, six]}


def test_connecting_gives_it_too(tenant: Tenant, member: User, engine: FakeEngine, back: Network) -> None:
    container = launched(tenant, member)
    asked = NetworkRequest("back", ("db",), at(back, 9), at(back, 9, six=True))
    assert connected(container, member, asked).state == "succeeded"
    told = engine.inspect(container.id).networks[1]
    assert (told.address, told.address6) == (asked.address, asked.address6)
    place = container.attachments.get(network=back)
    assert (place.requested_address, place.requested_address6) == (asked.address, asked.address6)
    assert (place.address, place.address6) == (asked.address, asked.address6)
    said = AuditEvent.objects.get(verb="container.connect", target=container.id)
    assert (said.data["address"], said.data["address6"]) == (asked.address, asked.address6)


def test_an_ordinary_connect_says_nothing_of_addresses_in_the_audit_log(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    assert connected(container, member, NetworkRequest("back", ("db",))).state == "succeeded"
    said = AuditEvent.objects.get(verb="container.connect", target=container.id)
    assert said.data == {"name": container.name, "network": "back", "aliases": ["db"]}


def test_one_that_never_came_to_be_has_it_when_it_is_launched(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    engine.misbehaviour.plan("start", fault="EngineFault", times=1)
    container = launched(tenant, member)
    assert container.state == "failed"
    connected(container, member, NetworkRequest("back", address=at(back, 9)))
    act(container, member, "start")
    assert engine.inspect(container.id).networks[1].address == at(back, 9)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(0, "keeps the address"), (1, "keeps the address"), (-1, "keeps the address"), (256, "Choose one in")],
)
def test_what_no_container_can_have_is_refused(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network, number: int, sentence: str
) -> None:
    """The network's own, the gateway's, the last, and one of another subnet."""
    lies = ipaddress.ip_network(back.subnet)
    address = str(lies[number]) if number < lies.num_addresses else str(lies[0] + number)
    container = launched(tenant, member)
    said = refused(tenant, member, replace(BUSYBOX, name="other", networks=(NetworkRequest("back", address=address),)))
    assert address in said
    assert sentence in said
    with pytest.raises(Invalid, match=sentence) as caught:
        connected(container, member, NetworkRequest("back", address=address))
    assert caught.value.field == "address"
    assert Container.objects.count() == 1
    assert not Operation.objects.filter(kind="connect").exists()


@pytest.mark.parametrize(
    ("asked", "field", "sentence"),
    [
        ({"address": "10.1"}, "address", "not an IPv4 address"),
        ({"address": "fd00::7"}, "address", "not an IPv4 address"),
        ({"address6": "10.0.0.7"}, "address6", "not an IPv6 address"),
        ({"address6": "fd00::7%eth0"}, "address6", "not an IPv6 address"),
        ({"address6": "fd00::7"}, "address6", "Choose one in"),
    ],
)
def test_what_is_no_address_of_the_network_is_refused(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network, asked: dict[str, str], field: str, sentence: str
) -> None:
    container = launched(tenant, member)
    place = NetworkRequest("back", **asked)  # type: ignore[arg-type]
    assert sentence in refused(tenant, member, replace(BUSYBOX, name="other", networks=(place,)))
    with pytest.raises(Invalid, match=sentence) as caught:
        connected(container, member, place)
    assert caught.value.field == field


def test_a_network_without_ipv6_takes_none(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    made(tenant, member, "four")
    place = NetworkRequest("four", address6="fd00::7")
    assert "has no IPv6" in refused(tenant, member, replace(BUSYBOX, networks=(place,)))


def test_where_the_subnet_is_not_known_yet_there_is_no_address(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    services.create_network(tenant=tenant, actor=member, name="soon", request_key="n")
    for name, sentence in (("soon", "wait until it is ready"), ("default", "once a container has run on it")):
        place = NetworkRequest(name, address="10.89.0.9")
        assert sentence in refused(tenant, member, replace(BUSYBOX, networks=(place,)))
    container = launched(tenant, member)
    default = Network.objects.get(name="default")
    assert default.subnet
    with pytest.raises(Invalid, match="wait until it is ready"):
        connected(container, member, NetworkRequest("soon", address="10.89.0.9"))
    assert launched(tenant, member, asking(default, 99, "next"), key()).state == "running"


def test_an_address_is_one_containers(tenant: Tenant, member: User, engine: FakeEngine, back: Network) -> None:
    """Whose it is: of what holds it, what asked for it and stands still, and what is on its way to it; until it is given up."""
    first = launched(tenant, member, asking(back, 77, "first"))
    assert "first" in refused(tenant, member, asking(back, 77, "second"))
    act(first, member, "stop")
    assert "first" in refused(tenant, member, asking(back, 77, "second"))
    other = launched(tenant, member, replace(BUSYBOX, name="other"), key())
    with pytest.raises(Invalid, match="first") as caught:
        connected(other, member, NetworkRequest("back", address=at(back, 77)))
    assert caught.value.field == "address"
    waiting = services.connect(
        container=other, actor=member, asked=NetworkRequest("back", address=at(back, 78)), request_key=key()
    )
    assert "other" in refused(tenant, member, asking(back, 78, "second"))
    run(operation=waiting.id)
    assert "other" in refused(tenant, member, asking(back, 78, "second"))
    left = services.disconnect(container=other, actor=member, network="back", request_key=key())
    run(operation=left.id)
    act(first, member, "remove")
    for number in (77, 78):
        assert launched(tenant, member, asking(back, number, f"now{number}"), key()).state == "running"


def test_an_address_that_somebody_was_given_is_taken(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    given = launched(tenant, member, replace(BUSYBOX, name="given", networks=(NetworkRequest("back"),)))
    place = given.attachments.get()
    assert place.requested_address is None
    for asked in (NetworkRequest("back", address=place.address), NetworkRequest("back", address6=place.address6)):
        assert "given" in refused(tenant, member, replace(BUSYBOX, name="second", networks=(asked,)))
    act(given, member, "stop")
    second = replace(BUSYBOX, name="second", networks=(NetworkRequest("back", address=place.address),))
    assert launched(tenant, member, second, key()).state == "running"


def test_another_tenants_container_takes_no_address_from_us(
    tenant: Tenant, member: User, viewer: User, outsider: User, engine: FakeEngine, back: Network
) -> None:
    """An outsider's network may have our network's name, and lie where ours does; whoever may not launch here is told of no address.

    One of our two has its address, the other is on its way to it.
    """
    theirs = Tenant.objects.exclude(pk=tenant.pk).get()
    Quota.objects.create(tenant=theirs)
    launched(tenant, member, asking(back, 77))
    other = launched(tenant, member, replace(BUSYBOX, name="other"), key())
    services.connect(
        container=other, actor=member, asked=NetworkRequest("back", address=at(back, 78)), request_key=key()
    )
    for person, refusal in ((viewer, NotAllowed), (outsider, Missing)):
        with pytest.raises(refusal):
            services.launch(tenant=tenant, actor=person, request=asking(back, 77, "x"), request_key=key())
    operation = services.create_network(tenant=theirs, actor=outsider, name="back", request_key="theirs")
    run(operation=operation.id)
    their_back = Network.objects.get(tenant=theirs)
    assert "Choose one in" in refused(theirs, outsider, asking(back, 77))
    Network.objects.filter(pk=their_back.pk).update(subnet=back.subnet)
    for number in (77, 78):
        services.launch(tenant=theirs, actor=outsider, request=asking(back, number, f"x{number}"), request_key=key())
    assert Container.objects.of(theirs).count() == 2


def test_what_the_engine_refuses_is_read_and_leaves_nothing(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    """Somebody at the node took it after the console let it in."""
    first = launched(tenant, member)
    engine.networks.connect(first.id, Attachment("back", at(back, 77)))
    second = launched(tenant, member, asking(back, 77, "second"), key())
    assert second.state == "failed"
    assert f"The address {at(back, 77)} is that of the container 'box'." in second.reason
    assert [one.id for one in engine.list()] == [first.id]
    third = launched(tenant, member, replace(BUSYBOX, name="third"), key())
    second.attachments.all().delete()
    operation = connected(third, member, NetworkRequest("back", address=at(back, 77)))
    assert (operation.state, operation.error_code) == ("failed", "conflict")
    assert f"The address {at(back, 77)} is that of the container 'box'." in operation.error_message
    assert third.attachments.count() == 1
    assert len(engine.inspect(third.id).networks) == 1


def test_nobody_is_given_it_while_it_stands_still(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    lowest = 2
    first = launched(tenant, member, asking(back, lowest, "first"))
    act(first, member, "stop")
    any_address = replace(BUSYBOX, name="second", networks=(NetworkRequest("back"),))
    second = launched(tenant, member, any_address, key())
    assert second.attachments.get().address == at(back, lowest + 1)
    assert act(first, member, "start").state == "succeeded"
    assert first.attachments.get().address == at(back, lowest)


def test_what_somebody_fixed_at_the_node_is_told(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    six = at(back, 0xABC, six=True)
    engine.networks.connect(container.id, Attachment("back", at(back, 50), six.upper()))
    reconcile_rows(engine)
    place = container.attachments.get(network=back)
    assert (place.requested_address, place.requested_address6) == (at(back, 50), six)
    reconcile_rows(engine)
    assert container.attachments.get(network=back).pk == place.pk
    assert container.name in refused(tenant, member, asking(back, 50, "other"))


@pytest.mark.parametrize("second", ["launch", "connect"])
def test_two_who_ask_at_once_are_not_both_let_in(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """The first has been let in and has not committed when the other asks.

    SQLite has one writer at a time anyway; on PostgreSQL the tenant's quota keeps them apart.
    """
    container = launched(tenant, member)
    let_in, asked = threading.Event(), threading.Event()
    holder: Callable[..., str] = addresses._holder

    def held(*args: Any) -> str:
        found = holder(*args)
        if threading.current_thread().name == "first":
            let_in.set()
            asked.wait(HELD_S)
        return found

    def launch(name: str) -> None:
        services.launch(tenant=tenant, actor=member, request=asking(back, 77, name), request_key=name)

    def connect(name: str) -> None:
        there = NetworkRequest("back", address=at(back, 77))
        services.connect(container=container, actor=member, asked=there, request_key=name)

    outcomes: dict[str, str] = {}

    def tried(name: str, deed: Callable[[str], None]) -> None:
        try:
            deed(name)
        except Invalid as told:
            outcomes[name] = told.message
        else:
            outcomes[name] = "in"
        finally:
            connection.close()

    monkeypatch.setattr(addresses, "_holder", held)
    one = threading.Thread(name="first", target=tried, args=("first", launch))
    one.start()
    assert let_in.wait(WITHIN_S)
    deed = launch if second == "launch" else connect
    two = threading.Thread(name="second", target=lambda: (tried("second", deed), asked.set()))
    two.start()
    for thread in (one, two):
        thread.join(WITHIN_S)
    assert outcomes["first"] == "in"
    assert "container first" in outcomes["second"]
    claims = Operation.objects.filter(kind="connect").count() + Container.objects.exclude(pk=container.pk).count()
    assert claims == 1
