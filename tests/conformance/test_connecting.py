"""A container comes onto a network and leaves one: the contract of runtime.api.Networks, held against every engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.api import MOST_NETWORKS, Attachment, ContainerSpec, Engine, EventKind, NetworkSpec, Port, State
from runtime.errors import Conflict, InvalidSpec, LimitExceeded, NotFound, RuntimeFault
from tests.conformance.test_engine import Make, engine, make, run
from tests.marks import no_cgroup, records_only, refused_early

__all__ = ["engine", "make"]
pytestmark = no_cgroup

BACK = NetworkSpec("tenant1", "back", ipv6=True)


def names(spec: ContainerSpec) -> list[str]:
    return [one.network for one in spec.networks]


def events(engine: Engine, id: str) -> list[tuple[EventKind, str]]:
    told = engine.events.read(subject=id)
    return [
        (one.kind, str(one.data["network"]))
        for one in told
        if one.kind in {EventKind.CONNECTED, EventKind.DISCONNECTED}
    ]


def test_what_runs_is_on_the_network_at_once_and_after_a_restart(engine: Engine, make: Make) -> None:
    engine.networks.create(BACK)
    id = run(engine, make())
    before = engine.inspect(id)
    wanted = Attachment("back", aliases=("db",))
    status = engine.networks.connect(id, wanted)
    assert (status.state, status.epoch, status.pid) == (State.RUNNING, before.epoch, before.pid)
    assert (status.address, status.networks[0]) == (before.address, before.networks[0])
    one = status.networks[1]
    assert (one.network, one.interface) == ("back", "eth1")
    assert one.address
    assert one.address6.startswith("fd")
    assert engine.networks.connect(id, wanted) == status == engine.inspect(id), "twice is once"
    assert engine.spec(id).networks == (Attachment("default"), wanted)
    assert engine.networks.inspect("tenant1", "back").containers == (id,)
    assert engine.reconcile().adopted == (id,)
    assert engine.inspect(id).networks == status.networks
    again = engine.restart(id, grace_s=0)
    assert [one.network for one in again.networks] == ["default", "back"]
    assert events(engine, id) == [(EventKind.CONNECTED, "back")]


def test_what_leaves_a_network_gives_its_place_back(engine: Engine, make: Make) -> None:
    engine.networks.create(BACK)
    id = run(engine, make(networks=(Attachment("default"), Attachment("back"))))
    held = engine.inspect(id).networks[1]
    with pytest.raises(Conflict):
        engine.networks.remove("tenant1", "back")
    status = engine.networks.disconnect(id, "back")
    assert [one.network for one in status.networks] == ["default"]
    assert engine.networks.disconnect(id, "back") == status == engine.inspect(id), "twice is once"
    assert names(engine.spec(id)) == ["default"]
    other = run(engine, make(networks=(Attachment("back", held.address, held.address6),)))
    assert engine.inspect(other).networks[0].address == held.address
    engine.remove(other, force=True)
    engine.networks.remove("tenant1", "back")
    assert events(engine, id) == [(EventKind.DISCONNECTED, "back")]
    assert engine.reconcile().adopted == (id,)
    assert [one.network for one in engine.restart(id, grace_s=0).networks] == ["default"]


def test_the_way_out_goes_over_to_the_next(engine: Engine, make: Make) -> None:
    engine.networks.create(BACK)
    id = run(engine, make())
    engine.networks.connect(id, Attachment("back"))
    status = engine.networks.disconnect(id, "default")
    assert [one.network for one in status.networks] == ["back"]
    assert status.address == status.networks[0].address
    back_again = engine.networks.connect(id, Attachment("default"))
    assert [(one.network, one.interface) for one in back_again.networks] == [("back", "eth1"), ("default", "eth0")]
    assert back_again.address == status.address


def test_what_does_not_run_has_it_at_its_start(engine: Engine, make: Make) -> None:
    engine.networks.create(BACK)
    engine.networks.create(replace(BACK, name="far"))
    id = engine.create(make()).id
    address = engine.networks.inspect("tenant1", "back").gateway.rsplit(".", 1)[0] + ".77"
    assert engine.networks.connect(id, Attachment("back", address)).networks == ()
    engine.networks.connect(id, Attachment("far"))
    engine.networks.disconnect(id, "default")
    started = engine.start(id)
    assert [(one.network, one.interface) for one in started.networks] == [("back", "eth0"), ("far", "eth1")]
    assert started.address == address
    assert events(engine, id) == [
        (EventKind.CONNECTED, "back"), (EventKind.CONNECTED, "far"), (EventKind.DISCONNECTED, "default"),
    ]  # fmt: skip


@refused_early
@pytest.mark.parametrize("running", [True, False])
def test_what_cannot_be_is_refused_and_changes_nothing(engine: Engine, make: Make, running: bool) -> None:
    engine.networks.create(BACK)
    engine.networks.create(NetworkSpec("tenant2", "theirs"))
    id = engine.create(make(ports=(Port(80),), networks=(Attachment("default"), Attachment("back")))).id
    if running:
        engine.start(id)
    before, spec = engine.inspect(id), engine.spec(id)

    def refused(kind: type[RuntimeFault], field: str, attachment: Attachment) -> None:
        with pytest.raises(kind) as caught:
            engine.networks.connect(id, attachment)
        assert caught.value.field == field
        assert caught.value.message
        assert caught.value.hint
        assert (engine.inspect(id), engine.spec(id)) == (before, spec)

    refused(NotFound, "network", Attachment("theirs"))
    refused(NotFound, "network", Attachment("nowhere"))
    refused(Conflict, "network", Attachment("back", aliases=("other",)))
    engine.networks.create(replace(BACK, name="free"))
    for one, field in (
        (Attachment("free", "10.255.255.1"), "address"),
        (Attachment("free", "nonsense"), "address"),
        (Attachment("free", address6="2001:db8::1"), "address6"),
        (Attachment("free", aliases=("No Spaces",)), "aliases"),
    ):
        refused(InvalidSpec, f"networks[2].{field}", one)
    for network, words in (("default", "published ports"), ("nowhere", "no network")):
        with pytest.raises(RuntimeFault, match=words):
            engine.networks.disconnect(id, network)
    engine.networks.disconnect(id, "back")
    with pytest.raises(Conflict, match="last"):
        engine.networks.disconnect(id, "default")
    for verb in (lambda: engine.networks.connect("cnobody", Attachment("back")), lambda: engine.networks.disconnect("cnobody", "back")):  # fmt: skip
        with pytest.raises(NotFound):
            verb()


def test_an_address_that_is_taken_is_refused(engine: Engine, make: Make) -> None:
    engine.networks.create(BACK)
    first = run(engine, make(networks=(Attachment("back"),)))
    taken = engine.inspect(first).networks[0]
    id = run(engine, make())
    before = engine.inspect(id)
    for one in (Attachment("back", taken.address), Attachment("back", address6=taken.address6)):
        with pytest.raises(Conflict):
            engine.networks.connect(id, one)
        assert engine.inspect(id) == before
        assert names(engine.spec(id)) == []
    number = int(taken.address.rsplit(".", 1)[1])
    free = taken.address.rsplit(".", 1)[0] + f".{number + 1}"
    assert engine.networks.connect(id, Attachment("back", free)).networks[1].address == free, "nothing was kept of it"


@records_only
def test_a_container_is_on_so_many_at_most(engine: Engine, make: Make) -> None:
    id = engine.create(make()).id
    for number in range(MOST_NETWORKS - 1):
        engine.networks.create(NetworkSpec("tenant1", f"net{number}"))
        engine.networks.connect(id, Attachment(f"net{number}"))
    engine.networks.create(BACK)
    with pytest.raises(LimitExceeded):
        engine.networks.connect(id, Attachment("back"))
    engine.networks.disconnect(id, "net0")
    engine.networks.connect(id, Attachment("back"))
    assert len(engine.start(id).networks) == MOST_NETWORKS


def test_a_port_stays_where_it_leads(engine: Engine, make: Make) -> None:
    engine.networks.create(replace(BACK, name="inner", internal=True))
    id = run(engine, make(ports=(Port(80),)))
    ports = engine.inspect(id).ports
    status = engine.networks.connect(id, Attachment("inner"))
    assert (status.ports, status.address) == (ports, status.networks[0].address)
    assert engine.networks.disconnect(id, "inner").ports == ports
