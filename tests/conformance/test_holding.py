"""A fixed address is its container's from its creation to its removal, whether it runs or not; held against every engine."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from runtime.api import Attachment, Engine, Network, NetworkSpec, State
from runtime.errors import Conflict, LimitExceeded
from tests.conformance.test_engine import Make, engine, make, run
from tests.marks import no_cgroup, records_only

__all__ = ["engine", "make"]
pytestmark = no_cgroup
LOWEST = 2
"""The number of the address that is given first: 1 is the gateway's."""


@pytest.fixture
def back(engine: Engine) -> Network:
    return engine.networks.create(NetworkSpec("tenant1", "back", ipv6=True))


def at(network: Network, number: int, number6: int | None = None) -> Attachment:
    """A place there with that address, and with that of IPv6."""
    address6 = None if number6 is None else str(ipaddress.ip_network(network.subnet6)[number6])
    return Attachment(network.name, str(ipaddress.ip_network(network.subnet)[number]), address6)


def anywhere(engine: Engine, make: Make) -> str | None:
    """The address of one more container that asks for none."""
    return engine.inspect(run(engine, make(networks=(Attachment("back"),)))).address


def test_nobody_is_given_what_one_that_does_not_run_has(engine: Engine, make: Make, back: Network) -> None:
    wanted = at(back, LOWEST)
    first = engine.create(make(networks=(wanted,))).id
    assert anywhere(engine, make) == at(back, LOWEST + 1).address
    assert engine.start(first).address == wanted.address
    engine.stop(first, grace_s=0)
    assert anywhere(engine, make) == at(back, LOWEST + 2).address
    assert engine.reconcile().failed == ()
    assert engine.start(first).address == wanted.address
    engine.remove(first, force=True)
    assert anywhere(engine, make) == wanted.address


def test_nobody_is_given_its_address_of_ipv6(engine: Engine, make: Make, back: Network) -> None:
    wanted = at(back, 77, LOWEST)
    first = engine.create(make(networks=(wanted,))).id
    second = engine.inspect(run(engine, make(networks=(Attachment("back"),)))).networks[0]
    assert second.address == at(back, LOWEST).address
    assert second.address6 != wanted.address6
    assert ipaddress.ip_address(second.address6) in ipaddress.ip_network(back.subnet6)
    assert engine.start(first).networks[0].address6 == wanted.address6


@pytest.mark.parametrize(
    "asked", [at, lambda network, number: Attachment("back", None, at(network, 99, number).address6)]
)
def test_whoever_asks_for_it_is_told_whose_it_is(engine: Engine, make: Make, back: Network, asked: object) -> None:
    first = make(networks=(asked(back, 77),))  # type: ignore[operator]
    engine.create(first)
    field = "address" if first.networks[0].address else "address6"
    second = make(networks=(Attachment("default"), first.networks[0]))
    third = engine.create(make(name="third")).id
    before = engine.spec(third)

    def refused(verb: object, *values: object) -> None:
        with pytest.raises(Conflict) as caught:
            verb(*values)  # type: ignore[operator]
        assert caught.value.field == f"networks[1].{field}"
        assert f"is that of the container {first.name!r}" in caught.value.message
        assert caught.value.data["container"] == first.id
        assert caught.value.hint

    for _ in range(2):
        refused(engine.create, second)
        refused(engine.networks.connect, third, first.networks[0])
        assert {one.id for one in engine.list()} == {first.id, third}
        assert engine.spec(third) == before
        engine.start(third)  # one that runs is told the same
    address = engine.inspect(third).networks
    assert [one.network for one in address] == ["default"]
    engine.create(replace(second, networks=(Attachment("default"), at(back, 78))))  # nothing was kept of it


def test_what_one_has_been_given_is_its_own_while_it_runs(engine: Engine, make: Make, back: Network) -> None:
    first = run(engine, make(name="first", networks=(Attachment("back"),)))
    given = Attachment("back", engine.inspect(first).address)
    with pytest.raises(Conflict, match="is that of the container 'first'") as caught:
        engine.create(make(networks=(given,)))
    assert caught.value.field == "networks[0].address"
    engine.stop(first, grace_s=0)
    second = run(engine, make(networks=(given,)))
    assert engine.inspect(second).address == given.address
    assert engine.start(first).address != given.address


@pytest.mark.parametrize("running", [True, False])
def test_it_comes_and_goes_with_the_network(engine: Engine, make: Make, back: Network, running: bool) -> None:
    id = engine.create(make()).id
    if running:
        engine.start(id)
    wanted = at(back, LOWEST, 0x7777)
    engine.networks.connect(id, wanted)
    if running:
        engine.stop(id, grace_s=0)
    assert anywhere(engine, make) != wanted.address
    other = make(networks=(wanted,))
    with pytest.raises(Conflict):
        engine.create(other)
    if running:
        engine.start(id)
    engine.networks.disconnect(id, "back")
    engine.create(other)
    assert engine.start(other.id).address == wanted.address
    assert engine.reconcile().failed == ()
    with pytest.raises(Conflict):
        engine.networks.connect(id, wanted)


@records_only
def test_a_creation_that_is_refused_holds_nothing(engine: Engine, make: Make, back: Network) -> None:
    engine.create(make(name="taken"))
    for networks in ((at(back, 77),), (at(back, 78), Attachment("default"))):
        with pytest.raises(Conflict) as caught:
            engine.create(make(name="taken", networks=networks))
        assert caught.value.field == "name"
        assert engine.create(make(networks=networks)).state is State.CREATED


@records_only
def test_a_subnet_whose_addresses_are_all_somebodys_is_full(engine: Engine, make: Make) -> None:
    subnet = f"{engine.home.subnets.rsplit('.', 2)[0]}.250.0/29"  # type: ignore[attr-defined]
    small = engine.networks.create(NetworkSpec("tenant1", "back", subnet=subnet))
    held = [engine.create(make(networks=(at(small, number),))).id for number in range(LOWEST, 7)]
    late = make(networks=(Attachment("back"),))
    engine.create(late)
    with pytest.raises(LimitExceeded):
        engine.start(late.id)
    engine.remove(held[-1])
    assert engine.start(late.id).address == at(small, 6).address
