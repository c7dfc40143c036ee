"""A container that is there comes onto the tenant's networks and leaves them: authorised, audited, and as the engine has it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import Client

from console.accounts.models import AuditEvent, Quota, Tenant, User
from console.core.errors import Invalid, Missing, NotAllowed
from console.metering import services as metering
from console.metering.measuring import seen_of
from console.metering.models import MeterEpoch
from console.operations.models import Operation
from console.operations.reconciling import reconcile_rows
from console.operations.runners import node_collector
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container, Network
from console.workloads.services import NetworkRequest, PortRequest, acting, networks, truth
from runtime.api import MOST_NETWORKS, Attachment, NetworkSpec
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import BUSYBOX, act, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)
WITHIN_S = 60
HELD_S = 2
"""How long the first of two waits, uncommitted, for the second to be let in, too."""


@pytest.fixture
def back(tenant: Tenant, member: User) -> Network:
    return made(tenant, member, "back")


def made(tenant: Tenant, member: User, name: str, **options: bool) -> Network:
    operation = services.create_network(tenant=tenant, actor=member, name=name, request_key=f"net-{name}", **options)
    run(operation=operation.id)
    return Network.objects.get(tenant=tenant, name=name)


def connected(container: Container, actor: User, *names: str, network: str = "back") -> Operation:
    asked = NetworkRequest(network, names)
    return done(services.connect(container=container, actor=actor, asked=asked, request_key=key()))


def disconnected(container: Container, actor: User, network: str) -> Operation:
    return done(services.disconnect(container=container, actor=actor, network=network, request_key=key()))


def key() -> str:
    return f"k{Operation.objects.count()}"


def done(operation: Operation) -> Operation:
    run(operation=operation.id)
    operation.refresh_from_db()
    return operation


def places(container: Container) -> list[tuple[str, list[str]]]:
    return [(one.network.name, one.aliases) for one in container.attachments.select_related("network")]


def told(container: Container) -> list[tuple[str, str]]:
    return [(one.kind, one.data["network"]) for one in container.events.order_by("pk") if "network" in one.data]


def test_it_is_on_the_network_while_it_runs_and_after(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    assert connected(container, member, "db").state == "succeeded"
    status = engine.inspect(container.id)
    assert [one.network for one in status.networks] == ["default", "back"]
    assert places(container) == [("default", []), ("back", ["db"])]
    row = container.attachments.get(network=back)
    assert (row.address, row.interface) == (status.networks[1].address, "eth1")
    assert told(container) == [("connected", "back")]
    assert services.spec(container).networks == engine.spec(container.id).networks
    act(container, member, "restart")
    assert [one.network for one in engine.inspect(container.id).networks] == ["default", "back"]
    assert disconnected(container, member, "default").state == "succeeded"
    container.refresh_from_db()
    assert places(container) == [("back", ["db"])]
    assert container.address == engine.inspect(container.id).networks[0].address
    assert told(container) == [("connected", "back"), ("disconnected", "default")]
    assert list(container.events.filter(kind="disconnected").values_list("actor__username", flat=True)) == ["max"]
    said = AuditEvent.objects.filter(target=container.id, verb__in=["container.connect", "container.disconnect"])
    assert {(one.verb, one.data["network"]) for one in said} == {
        ("container.connect", "back"), ("container.disconnect", "default"),
    }  # fmt: skip


def test_one_that_never_came_to_be_has_it_when_it_is_launched(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    engine.misbehaviour.plan("start", fault="EngineFault", times=1)
    container = launched(tenant, member)
    assert connected(container, member).state == "succeeded"
    assert disconnected(container, member, "default").state == "succeeded"
    assert places(container) == [("back", [])]
    act(container, member, "start")
    assert [one.network for one in engine.inspect(container.id).networks] == ["back"]


def test_what_cannot_be_is_refused_at_its_field(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member, replace(BUSYBOX, ports=(PortRequest(80),)))
    refusals = (
        (NetworkRequest("nowhere"), "network"),
        (NetworkRequest("default"), "network"),
        (NetworkRequest("back", ("No Spaces",)), "aliases"),
    )
    for asked, field in refusals:
        with pytest.raises(Invalid) as caught:
            services.connect(container=container, actor=member, asked=asked, request_key=key())
        assert caught.value.field == field
    with pytest.raises(Invalid, match="last network"):
        services.disconnect(container=container, actor=member, network="default", request_key=key())
    connected(container, member)
    with pytest.raises(Invalid, match="published ports"):
        services.disconnect(container=container, actor=member, network="default", request_key=key())
    with pytest.raises(Invalid, match="not on"):
        services.disconnect(container=container, actor=member, network="nowhere", request_key=key())
    assert disconnected(container, member, "back").state == "succeeded"
    assert not AuditEvent.objects.filter(verb="container.connect", data__network="nowhere").exists()


def test_it_is_on_so_many_at_most(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    for number in range(MOST_NETWORKS):
        Network.objects.create(tenant=tenant, node="here", name=f"net{number}", state="ready")
    for row in Network.objects.filter(name__startswith="net")[: MOST_NETWORKS - 1]:
        container.attachments.create(network=row)
    with pytest.raises(Invalid, match=str(MOST_NETWORKS)):
        services.connect(
            container=container, actor=member, asked=NetworkRequest(f"net{MOST_NETWORKS - 1}"), request_key=key()
        )


def test_who_may_not_is_refused(
    tenant: Tenant, member: User, viewer: User, outsider: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    for person, refusal in ((viewer, NotAllowed), (outsider, Missing)):
        with pytest.raises(refusal):
            services.connect(container=container, actor=person, asked=NetworkRequest("back"), request_key=key())
        with pytest.raises(refusal):
            services.disconnect(container=container, actor=person, network="default", request_key=key())
    assert not Operation.objects.filter(kind__in=["connect", "disconnect"]).exists()


def test_another_tenants_network_is_none(tenant: Tenant, member: User, outsider: User, engine: FakeEngine) -> None:
    theirs = Tenant.objects.exclude(pk=tenant.pk).get()
    Quota.objects.create(tenant=theirs)
    made(theirs, outsider, "theirs")
    container = launched(tenant, member)
    with pytest.raises(Invalid, match="no network theirs"):
        services.connect(container=container, actor=member, asked=NetworkRequest("theirs"), request_key=key())


def test_a_network_that_somebody_is_coming_onto_is_not_removed(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    waiting = services.connect(container=container, actor=member, asked=NetworkRequest("back"), request_key="c")
    with pytest.raises(Invalid, match=container.name):
        services.remove_network(network=back, actor=member, request_key="r")
    done(waiting)
    with pytest.raises(Invalid, match=container.name):
        services.remove_network(network=back, actor=member, request_key="r")
    disconnected(container, member, "back")
    assert done(services.remove_network(network=back, actor=member, request_key="r")).state == "succeeded"


def test_a_second_click_is_one_operation_and_a_second_run_one_event(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    one = services.connect(container=container, actor=member, asked=NetworkRequest("back"), request_key="c")
    assert services.connect(container=container, actor=member, asked=NetworkRequest("back"), request_key="c") == one
    done(one)
    Operation.objects.filter(pk=one.pk).update(state="queued")
    assert done(one).state == "succeeded"
    assert told(container) == [("connected", "back")]


def test_what_the_engine_refuses_leaves_the_rows(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    engine.networks.remove(tenant.id, "back")
    operation = connected(container, member)
    assert (operation.state, operation.error_code) == ("failed", "not_found")
    assert places(container) == [("default", [])]
    assert told(container) == []


def test_what_somebody_did_at_the_node_is_told(tenant: Tenant, member: User, engine: FakeEngine, back: Network) -> None:
    container = launched(tenant, member)
    engine.networks.connect(container.id, Attachment("back", aliases=("db",)))
    reconcile_rows(engine)
    assert places(container) == [("default", []), ("back", ["db"])]
    assert container.attachments.get(network=back).address == engine.inspect(container.id).networks[1].address
    engine.networks.disconnect(container.id, "default")
    reconcile_rows(engine)
    reconcile_rows(engine)
    container.refresh_from_db()
    assert container.address == engine.inspect(container.id).address
    assert told(container) == [("connected", "back"), ("disconnected", "default")]


def test_the_page_has_the_forms_and_says_what_is_wrong(
    tenant: Tenant, member: User, viewer: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    client = Client()
    client.force_login(member)
    page = client.get(f"/containers/{container.id}/?tab=change").content.decode()
    assert '<option value="back">' in page
    assert f"/containers/{container.id}/disconnect/" not in page, "its last network stays"
    sent = {"network": "back", "aliases": "db No!", "request_key": "f1"}
    refused = client.post(f"/containers/{container.id}/connect/", sent)
    assert refused.status_code == 422
    assert 'value="db No!"' in refused.content.decode()
    assert "not a valid name" in refused.content.decode()
    assert client.post(f"/containers/{container.id}/connect/", {**sent, "aliases": "db www"}).status_code == 302
    done(Operation.objects.get(kind="connect"))
    page = client.get(f"/containers/{container.id}/?tab=change").content.decode()
    assert f"/containers/{container.id}/disconnect/" in page
    assert '<option value="back">' not in page
    assert "db" in client.get(f"/containers/{container.id}/configuration/").content.decode()
    refused = client.post(f"/containers/{container.id}/disconnect/", {"leave": "nowhere", "request_key": "f2"})
    assert refused.status_code == 422
    assert "not on the network nowhere" in refused.content.decode()
    sent = {"leave": "back", "request_key": "f3"}
    assert client.post(f"/containers/{container.id}/disconnect/", sent).status_code == 302
    done(Operation.objects.get(kind="disconnect"))
    events = client.get(f"/containers/{container.id}/events/").content.decode()
    assert "Connected to a network" in events
    assert "Disconnected from a network" in events
    client.force_login(viewer)
    assert client.post(f"/containers/{container.id}/connect/", sent).status_code == 403


def posted(client: Client, container: Container, verb: str, form: str, **fields: str) -> int:
    return client.post(f"/containers/{container.id}/{verb}/", {**fields, "request_key": form}).status_code


def open_ones_done() -> None:
    for operation in Operation.objects.filter(state="queued"):
        assert done(operation).state == "succeeded"


def test_each_form_is_one_operation_however_long_the_networks_name_is(
    tenant: Tenant, member: User, engine: FakeEngine
) -> None:
    name = "n" * 55
    made(tenant, member, name)
    container = launched(tenant, member)
    client = Client()
    client.force_login(member)
    for number in range(2):
        assert posted(client, container, "connect", f"{number:032d}", network=name, aliases="") == 302
        open_ones_done()
        assert [network for network, _ in places(container)] == ["default", name]
        for _click in range(2):
            assert posted(client, container, "disconnect", f"d{number:031d}", leave=name) == 302
        open_ones_done()
        assert [network for network, _ in places(container)] == ["default"]
        assert Operation.objects.filter(kind="disconnect").count() == number + 1


def test_two_networks_are_left_from_one_page(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    """All forms of a page have one key."""
    container = launched(tenant, member)
    for name in ("back", "beside"):
        made(tenant, member, name)
        connected(container, member, network=name)
    client = Client()
    client.force_login(member)
    for name in ("back", "beside"):
        assert posted(client, container, "disconnect", "p", leave=name) == 302
        open_ones_done()
    assert places(container) == [("default", [])]


def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(truth, "announce", lambda _tenant, _kind, id, **_more: said.append(id))
    return said


def test_a_network_that_no_row_knows_changes_nothing(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = launched(tenant, member)
    address = container.attachments.get().address
    engine.networks.create(NetworkSpec(tenant.id, "shell"))
    engine.networks.connect(container.id, Attachment("shell"))
    said = announced(monkeypatch)
    for _time in range(3):
        assert f"network {tenant.id}/shell" in reconcile_rows(engine)
        services.changed(engine.spec(container.id))
        assert container.attachments.get().address == address is not None
    assert said == []
    engine.networks.connect(container.id, Attachment("back"))
    reconcile_rows(engine)
    assert places(container) == [("default", []), ("back", [])]
    assert container.attachments.get(network=back).interface == "eth2", "its place is the engine's, not its row's"
    assert told(container) == [("connected", "back")]


def test_one_that_is_only_on_what_no_row_knows_is_nowhere_else(
    tenant: Tenant, member: User, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = launched(tenant, member)
    engine.networks.create(NetworkSpec(tenant.id, "shell"))
    engine.networks.connect(container.id, Attachment("shell"))
    engine.networks.disconnect(container.id, "default")
    reconcile_rows(engine)
    said = announced(monkeypatch)
    for _time in range(3):
        reconcile_rows(engine)
        assert places(container) == []
    assert told(container) == [("disconnected", "default")]
    assert said == []
    with pytest.raises(Invalid, match="not on the network default"):
        services.disconnect(container=container, actor=member, network="default", request_key=key())
    assert connected(container, member, network="default").state == "succeeded"
    assert places(container) == [("default", [])]
    assert container.attachments.get().address == engine.inspect(container.id).networks[1].address


def test_its_addresses_stay_in_their_rows_while_it_comes_and_goes(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    """The spec's truth comes before the status's: a page that is read in between shows them."""
    container = launched(tenant, member)
    address = container.attachments.get().address
    engine.networks.connect(container.id, Attachment("back"))
    services.changed(engine.spec(container.id))
    assert container.attachments.get(network__name="default").address == address is not None


def test_the_rows_are_in_the_order_of_its_interfaces(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    """Its way out is the first, so the order is told, too."""
    container = launched(tenant, member)
    connected(container, member)
    engine.networks.disconnect(container.id, "default")
    engine.networks.connect(container.id, Attachment("default"))
    reconcile_rows(engine)
    assert [one.network for one in engine.inspect(container.id).networks] == ["back", "default"]
    assert places(container) == [("back", []), ("default", [])]
    assert None not in container.attachments.values_list("address", flat=True)


def looked_at(container: Container) -> int:
    """The last look that the database has, in ns of boot time."""
    seen = seen_of(MeterEpoch.objects.filter(container=container.pk).latest("number").latest)
    assert seen is not None
    return seen.ns


def test_a_look_is_taken_after_each(tenant: Tenant, member: User, engine: FakeEngine, back: Network) -> None:
    """What an interface counted that is gone is safe from here on."""
    container = launched(tenant, member)
    before = looked_at(container)
    assert connected(container, member).state == "succeeded"
    on = looked_at(container)
    assert on > before
    assert disconnected(container, member, "back").state == "succeeded"
    assert looked_at(container) > on


def test_the_look_is_in_the_spool_while_the_database_takes_none(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = launched(tenant, member)
    collector = node_collector(engine)

    def away(_looks: object) -> None:
        raise DatabaseError("away")

    for verb in (lambda: connected(container, member), lambda: disconnected(container, member, "back")):
        pending = collector.pending_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(metering, "take", away)
            assert verb().state == "succeeded"
        assert collector.pending_bytes() > pending


def test_one_that_is_not_made_yet_is_made(tenant: Tenant, member: User, engine: FakeEngine) -> None:
    container = launched(tenant, member)
    making = services.create_network(tenant=tenant, actor=member, name="soon", request_key="n")
    assert Network.objects.get(name="soon").state == "pending"
    assert connected(container, member, network="soon").state == "succeeded"
    assert Network.objects.get(name="soon").state == "ready"
    assert places(container) == [("default", []), ("soon", [])]
    assert done(making).state == "succeeded"


@pytest.mark.parametrize("first", ["connect", "remove"])
def test_a_network_is_not_removed_while_somebody_comes_onto_it(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Whoever is first has been let in and has not committed when the other asks: then the other is refused.

    SQLite has one writer at a time anyway; on PostgreSQL the tenant's quota keeps them apart.
    """
    container = launched(tenant, member)
    let_in, asked = threading.Event(), threading.Event()

    def holding(module: Any, name: str) -> None:
        check: Callable[..., None] = getattr(module, name)

        def held(*args: Any) -> None:
            check(*args)
            if threading.current_thread().name == first:
                let_in.set()
                asked.wait(HELD_S)

        monkeypatch.setattr(module, name, held)

    def connect() -> None:
        services.connect(container=container, actor=member, asked=NetworkRequest("back"), request_key="c")

    def remove() -> None:
        services.remove_network(network=back, actor=member, request_key="r")

    outcomes: dict[str, str] = {}

    def tried(name: str, deed: Callable[[], None]) -> None:
        try:
            deed()
        except Invalid as refused:
            outcomes[name] = refused.message
        else:
            outcomes[name] = "in"
        finally:
            connection.close()

    holding(acting, "check_connection")
    holding(networks, "_refuse_used")
    deeds = {"connect": connect, "remove": remove}
    second = next(name for name in deeds if name != first)
    one = threading.Thread(name=first, target=tried, args=(first, deeds[first]))
    one.start()
    assert let_in.wait(WITHIN_S)
    two = threading.Thread(name=second, target=lambda: (tried(second, deeds[second]), asked.set()))
    two.start()
    for thread in (one, two):
        thread.join(WITHIN_S)
    assert outcomes[first] == "in"
    assert ("cannot be used" if first == "remove" else container.name) in outcomes[second]
    back.refresh_from_db()
    assert back.state == ("removing" if first == "remove" else "ready")


def change_page(client: Client, container: Container) -> str:
    return client.get(f"/containers/{container.id}/?tab=change").content.decode()


def test_the_page_says_where_it_leads_out_and_what_would_change_that(
    tenant: Tenant, member: User, engine: FakeEngine, back: Network
) -> None:
    container = launched(tenant, member)
    made(tenant, member, "inner", internal=True)
    connected(container, member, network="inner")
    connected(container, member)
    client = Client()
    client.force_login(member)
    page = change_page(client, container)
    assert page.count("its way out") == 1
    assert page.count("Its way out leads through back from then on.") == 1, "of default alone"
    assert "network-warning" not in page
    disconnected(container, member, "back")
    page = change_page(client, container)
    assert "It has no way out from then on." in page
    assert disconnected(container, member, "default").state == "succeeded"
    page = change_page(client, container)
    assert 'id="network-warning"' in page
    assert "gives it a way out" in page
    assert 'aria-describedby="network-warning network-problem"' in page
    assert "its way out" not in page
