"""The contract of runtime.api.Networks, and of a container's places on networks, held against every engine."""

from __future__ import annotations

import ipaddress
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from runtime.api import Attachment, Capability, Engine, Limits, NetworkSpec, Port, State
from runtime.errors import Conflict, InvalidSpec, NotFound, RuntimeFault
from tests.conformance.test_engine import Make, engine, make, run
from tests.marks import no_cgroup, records_only, refused_early

__all__ = ["engine", "make"]
pytestmark = no_cgroup

BACK = NetworkSpec("tenant1", "back")


def on(*networks: str | Attachment, **changes: object) -> dict[str, object]:
    places = tuple(one if isinstance(one, Attachment) else Attachment(one) for one in networks)
    return {"networks": places, **changes}


@records_only
def test_a_network_is_there_until_it_is_removed(engine: Engine) -> None:
    assert Capability.NETWORKS in engine.capabilities
    made = engine.networks.create(BACK)
    assert engine.networks.create(BACK) == made == engine.networks.inspect("tenant1", "back")
    assert ipaddress.ip_address(made.gateway) in ipaddress.ip_network(made.subnet)
    assert (made.subnet6, made.internal, made.containers) == ("", False, ())
    engine.networks.remove("tenant1", "back")
    engine.networks.remove("tenant1", "back")
    with pytest.raises(NotFound):
        engine.networks.inspect("tenant1", "back")
    assert engine.networks.list() == ()


@records_only
def test_a_name_is_a_tenants_own_and_has_one_specification(engine: Engine) -> None:
    one = engine.networks.create(BACK)
    other = engine.networks.create(replace(BACK, tenant="tenant2"))
    assert one.subnet != other.subnet
    assert one.bridge != other.bridge
    with pytest.raises(Conflict) as caught:
        engine.networks.create(replace(BACK, internal=True))
    assert caught.value.field == "name"
    assert [network.tenant for network in engine.networks.list("tenant2")] == ["tenant2"]


@refused_early
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "No Spaces"}, "name"),
        ({"name": "default"}, "name"),
        ({"tenant": "../x"}, "tenant"),
        ({"subnet": "10.0.0.1/24"}, "subnet"),
        ({"subnet": "10.0.0.0/8"}, "subnet"),
        ({"subnet": "10.0.0.0/30"}, "subnet"),
        ({"subnet": "198.51.100.0/24"}, "subnet"),
        ({"subnet6": "2001:db8::/64"}, "subnet6"),
        ({"subnet6": "fd00::/48"}, "subnet6"),
        ({"subnet6": "nonsense"}, "subnet6"),
        ({"gateway": "10.0.0.1"}, "gateway"),
        ({"parent": "lo", "subnet": "10.250.0.0/24"}, "parent"),
        ({"parent": "lo"}, "subnet"),
        ({"parent": "lo", "subnet": "10.250.0.0/24", "internal": True}, "parent"),
        ({"parent": "lo", "subnet": "10.250.0.0/24", "gateway": "10.251.0.1"}, "gateway"),
    ],
)
def test_a_bad_network_names_its_field(engine: Engine, changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        engine.networks.create(replace(BACK, **changes))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert engine.networks.list() == ()


@records_only
def test_no_two_networks_meet(engine: Engine, make: Make) -> None:
    engine.create(make())
    home = engine.home  # type: ignore[attr-defined]
    first = str(next(ipaddress.ip_network(home.subnets).subnets(new_prefix=24)))
    with pytest.raises(Conflict) as caught:
        engine.networks.create(replace(BACK, subnet=first))
    assert caught.value.field == "subnet"
    chosen = str(list(ipaddress.ip_network(home.subnets).subnets(new_prefix=24))[1])
    engine.networks.create(replace(BACK, subnet=chosen, subnet6="fd12:3456:789a:1::/64"))
    with pytest.raises(Conflict) as caught:
        engine.networks.create(replace(BACK, name="other", subnet6="fd12:3456:789a:1::/64"))
    assert caught.value.field == "subnet6"
    engine.create(make(tenant="tenant2"))
    (own,) = (network for network in engine.networks.list("tenant2") if network.name == "default")
    assert own.subnet not in {first, chosen}


@records_only
def test_ipv6_is_a_subnet_of_its_own(engine: Engine) -> None:
    one = engine.networks.create(replace(BACK, ipv6=True))
    other = engine.networks.create(replace(BACK, name="other", ipv6=True))
    assert one.subnet6 != other.subnet6
    for network in (one, other):
        assert ipaddress.ip_network(network.subnet6).subnet_of(ipaddress.ip_network("fd00::/8"))  # type: ignore[arg-type]
        assert ipaddress.ip_address(network.gateway6) in ipaddress.ip_network(network.subnet6)


def test_a_container_on_several_networks(engine: Engine, make: Make) -> None:
    back = engine.networks.create(BACK)
    six = engine.networks.create(replace(BACK, name="six", ipv6=True))
    id = run(engine, make(**on("default", "back", "six")))
    status = engine.inspect(id)
    assert [one.network for one in status.networks] == ["default", "back", "six"]
    assert [one.interface for one in status.networks] == ["eth0", "eth1", "eth2"]
    assert status.address == status.networks[0].address
    assert ipaddress.ip_address(status.networks[1].address) in ipaddress.ip_network(back.subnet)
    assert ipaddress.ip_address(status.networks[2].address6) in ipaddress.ip_network(six.subnet6)
    assert engine.networks.inspect("tenant1", "back").containers == (id,)
    assert engine.networks.inspect("tenant1", "default").containers == (id,)
    assert engine.stop(id, grace_s=0.2).networks == ()
    assert engine.start(id).networks == status.networks


def test_a_fixed_address_is_ones_own(engine: Engine, make: Make) -> None:
    back = engine.networks.create(replace(BACK, ipv6=True))
    address = str(ipaddress.ip_network(back.subnet)[77])
    address6 = str(ipaddress.ip_network(back.subnet6)[0x7777])
    place = Attachment("back", address, address6)
    first = run(engine, make(**on(place)))
    assert engine.inspect(first).networks[0].address == address
    assert engine.inspect(first).networks[0].address6 == address6
    second = make(**on(place))
    with pytest.raises(Conflict) as caught:
        engine.create(second)
    assert caught.value.field == "networks[0].address"
    third = run(engine, make(**on("back")))
    assert engine.inspect(third).address != address
    engine.remove(first, force=True)
    engine.create(second)
    assert engine.start(second.id).address == address


@refused_early
@pytest.mark.parametrize(
    ("place", "field"),
    [
        (Attachment("back", address="203.0.113.7"), "networks[0].address"),
        (Attachment("back", address="nonsense"), "networks[0].address"),
        (Attachment("back", address6="fd99::7"), "networks[0].address6"),
        (Attachment("back", address6="fd99::7%eth0"), "networks[0].address6"),
        (Attachment("back", aliases=("Not A Name",)), "networks[0].aliases"),
        (Attachment("no spaces"), "networks[0].network"),
    ],
)
def test_a_bad_place_names_its_field(engine: Engine, make: Make, place: Attachment, field: str) -> None:
    engine.networks.create(BACK)
    with pytest.raises(InvalidSpec) as caught:
        engine.create(make(**on(place)))
    assert caught.value.field == field
    assert engine.list() == ()


@refused_early
def test_what_a_network_keeps_is_nobodys_to_fix(engine: Engine, make: Make) -> None:
    back = engine.networks.create(replace(BACK, ipv6=True))
    for subnet, field in ((back.subnet, "address"), (back.subnet6, "address6")):
        lies = ipaddress.ip_network(subnet)
        for kept in (lies[0], lies[1], lies[-1]):
            with pytest.raises(InvalidSpec, match=str(kept)) as caught:
                engine.create(make(**on(Attachment("back", **{field: str(kept)}))))
            assert caught.value.field == f"networks[0].{field}"
    assert engine.list() == ()


@refused_early
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (on("back", "back"), "networks[1].network"),
        (on(*(f"n{number}" for number in range(9))), "networks"),
        (on("back", ports=(Port(80, host_address="::"),)), "ports[0].host_address"),
        (on("inner", ports=(Port(80),)), "ports[0]"),
        ({"ports": (Port(80, host_address="::1"),)}, "ports[0].host_address"),
        ({"ports": (Port(80, host_address="fe80::1"),)}, "ports[0].host_address"),
        ({"ports": (Port(80, host_address="FD00::0:1"),)}, "ports[0].host_address"),
        ({"ports": tuple(Port(80, host_port=1000 + number) for number in range(1025))}, "ports"),
        ({"limits": Limits(net_rx_bps=1)}, "limits.net_rx_bps"),
        ({"limits": Limits(net_tx_bps=1 << 50)}, "limits.net_tx_bps"),
    ],
)
def test_what_a_network_cannot_do_is_refused_before_anything_is_made(
    engine: Engine, make: Make, changes: dict[str, object], field: str
) -> None:
    engine.networks.create(BACK)
    engine.networks.create(replace(BACK, name="inner", internal=True))
    with pytest.raises(InvalidSpec) as caught:
        engine.create(make(**changes))
    assert caught.value.field == field
    assert engine.list() == ()


@records_only
def test_another_tenants_network_is_not_there(engine: Engine, make: Make) -> None:
    engine.networks.create(BACK)
    with pytest.raises(NotFound) as caught:
        engine.create(make(tenant="tenant2", **on("back")))
    assert caught.value.field == "networks[0].network"


def test_a_network_with_containers_stays(engine: Engine, make: Make) -> None:
    engine.networks.create(BACK)
    engine.networks.create(replace(BACK, name="idle"))
    spec = make(**on("back"))
    engine.create(spec)
    with pytest.raises(Conflict) as caught:
        engine.networks.remove("tenant1", "back")
    assert caught.value.data["container"] == spec.id
    assert engine.networks.prune("tenant2") == ()
    assert engine.networks.prune() == ("tenant1/idle",)
    engine.remove(spec.id)
    assert engine.networks.prune("tenant1") == ("tenant1/back",)


@records_only
def test_a_tenants_own_network_stays(engine: Engine, make: Make) -> None:
    with pytest.raises(NotFound):
        engine.networks.inspect("tenant1", "default")
    engine.create(make())
    with pytest.raises(Conflict):
        engine.networks.remove("tenant1", "default")
    assert engine.networks.prune() == ()
    assert engine.networks.inspect("tenant1", "default").name == "default"


def test_a_port_of_either_protocol_and_either_family(engine: Engine, make: Make) -> None:
    engine.networks.create(replace(BACK, ipv6=True))
    wanted = (Port(80), Port(80, "udp"), Port(80, host_address="::"), Port(80, "udp", host_address="127.0.0.1"))
    id = run(engine, make(**on("back", ports=wanted)))
    got = engine.inspect(id).ports
    assert [(port.protocol, port.host_address) for port in got] == [
        (port.protocol, port.host_address) for port in wanted
    ]
    assert all(port.host_port for port in got)
    number = got[0].host_port
    other = make(**on("back", ports=(Port(80, host_port=number, host_address="::"),)))
    if number != got[2].host_port:  # the families do not meet
        engine.create(other)
        assert engine.start(other.id).ports[0].host_port == number


def test_bandwidth_changes_also_while_it_runs(engine: Engine, make: Make) -> None:
    spec = make(limits=Limits(memory_bytes=32 << 20, cpu_millis=500, pids=32, net_rx_bps=10**6))
    run(engine, spec)
    wanted = replace(spec.limits, net_rx_bps=None, net_tx_bps=10**7)
    engine.controls.update(spec.id, wanted)
    assert engine.spec(spec.id).limits == wanted
    assert engine.inspect(spec.id).sizes[-1].limits == wanted
    with pytest.raises(InvalidSpec) as caught:
        engine.controls.update(spec.id, replace(wanted, net_tx_bps=1))
    assert caught.value.field == "limits.net_tx_bps"


@records_only
def test_many_networks_at_once(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: engine.networks.create(NetworkSpec("tenant1", f"n{n}", ipv6=True)), range(8)))
    assert len({network.subnet for network in made}) == len({network.subnet6 for network in made}) == 8
    assert set(engine.networks.prune()) == {f"tenant1/n{number}" for number in range(8)}


def test_a_container_and_the_removal_of_its_network_do_not_cross(engine: Engine, make: Make) -> None:
    """Whoever comes first wins, and nobody has a network that is gone."""
    for _ in range(4):
        engine.networks.create(BACK)
        spec = make(**on("back"))
        with ThreadPoolExecutor(2) as pool:
            created = pool.submit(_tried, engine.create, spec)
            removed = pool.submit(_tried, engine.networks.remove, "tenant1", "back")
        assert created.result() != removed.result()
        if created.result():
            assert engine.start(spec.id).state is State.RUNNING
            engine.remove(spec.id, force=True)


def _tried(verb: object, *values: object) -> bool:
    try:
        verb(*values)  # type: ignore[operator]
    except RuntimeFault:
        return False
    return True
