"""Who holds a fixed address and who is given a free one, both at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.api import Attachment, ContainerSpec, NetworkSpec
from runtime.errors import Conflict
from runtime.home import Home
from runtime.network import addresses, holding
from runtime.network.claims import Claims
from runtime.network.segments import Segment, Segments
from runtime.network.tenants import TenantSlots
from tests.unit.homes import OwnRun

ROUNDS = 200


def test_an_address_is_never_ones_own_and_anothers(tmp_path: Path) -> None:
    home = OwnRun(tmp_path)
    segment = Segment("tenant1", "back", "b", "10.0.0.0/24", "10.0.0.1", "fd00::/64", "fd00::1")
    fixed = Attachment("back", "10.0.0.2", "fd00::2")
    spec = ContainerSpec("cfixed", "tenant1", "fixed", "sha256:" + "0" * 64, networks=(fixed,))
    both = threading.Barrier(2, timeout=30)
    got: list[str] = []

    def leases() -> None:
        for _ in range(ROUNDS):
            both.wait()
            address = addresses.take_address(home, segment, "cany")
            got[:] = [address, addresses.take_address6(home, segment, "cany", address)]
            both.wait()
            addresses.address_claims(home, "tenant1").free_all("cany")

    other = threading.Thread(target=leases)
    other.start()
    ways = set()
    for _ in range(ROUNDS):
        both.wait()
        try:
            holding.hold(home, spec, str)
            holds = {"10.0.0.2", "fd00::2"}
        except Conflict:
            holds = set()
        both.wait()
        assert not holds & set(got), f"{got} were given and held"
        assert {address for _, _, address in holding.holdings(home)} == holds, "all or none"
        ways.add(bool(holds))
        holding.let_go_of_all(home, "cfixed")
    other.join()
    assert ways == {True, False}, "each came first at times"


def test_an_address_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    home = OwnRun(tmp_path)
    spec = ContainerSpec(
        "cfirst", "tenant1", "first", "sha256:" + "0" * 64, networks=(Attachment("back", None, "FD00:0:0::00A"),)
    )
    holding.hold(home, spec, str)
    segment = Segment("tenant1", "back", "b", "10.0.0.0/24", "10.0.0.1", "fd00::/64", "fd00::1")
    assert addresses.take_address6(home, segment, "csecond", "10.0.0.10") != "fd00::a"
    with pytest.raises(Conflict) as caught:
        addresses.take_address6(home, segment, "csecond", "10.0.0.10", "fd00::a")
    assert caught.value.field == "networks[0].address6"


@pytest.fixture
def flat(tmp_path: Path) -> tuple[Home, Segment, Segment]:
    """Two bridges of the node's with the same addresses."""
    home = OwnRun(tmp_path)
    segments = Segments(home, TenantSlots(home))
    left, right = (
        segments.create(
            NetworkSpec("tenant1", name, subnet="192.168.77.0/24", parent=f"br{name}", gateway="192.168.77.1")
        )
        for name in ("left", "right")
    )
    return home, left, right


def on(id: str, *networks: str) -> ContainerSpec:
    """With the same fixed address on each."""
    attachments = tuple(Attachment(name, "192.168.77.2") for name in networks)
    return ContainerSpec(id, "tenant1", id, "sha256:" + "0" * 64, networks=attachments)


def test_an_address_of_one_bridge_is_none_of_anothers(flat: tuple[Home, Segment, Segment]) -> None:
    home, left, right = flat
    holding.hold(home, on("cfirst", "left"), str)
    holding.hold(home, on("csecond", "right"), str)
    assert addresses.take_address(home, left, "cfirst", "192.168.77.2") == "192.168.77.2"
    assert addresses.take_address(home, right, "csecond", "192.168.77.2") == "192.168.77.2"
    assert addresses.take_address(home, left, "cthird") == "192.168.77.3", "neither the gateway's nor a held one"
    assert addresses.take_address(home, right, "cfourth") == "192.168.77.3"
    with pytest.raises(Conflict) as caught:
        holding.hold(home, on("cfifth", "right"), str)
    assert (caught.value.field, caught.value.data["container"]) == ("networks[0].address", "csecond")
    assert "The address 192.168.77.2 is" in caught.value.message


def test_who_leaves_one_of_two_bridges_holds_the_same_address_on_the_other(flat: tuple[Home, Segment, Segment]) -> None:
    home, _, _ = flat
    both = on("cfirst", "left", "right")
    holding.hold(home, both, str)
    holding.let_go(home, both, both.networks[:1])
    holding.hold(home, on("csecond", "left"), str)
    with pytest.raises(Conflict):
        holding.hold(home, on("csecond", "right"), str)


@pytest.mark.parametrize("claims_of", [addresses.fixed_claims, addresses.address_claims], ids=["held", "leased"])
def test_who_has_an_address_since_a_version_without_bridges_keeps_it(
    flat: tuple[Home, Segment, Segment], claims_of: Callable[[Home, str], Claims]
) -> None:
    """Before the first reconciliation, which gives it the claim of its bridge."""
    home, left, _ = flat
    old = on("cold", "left")
    assert claims_of(home, "tenant1").take("192.168.77.2", "cold")
    with pytest.raises(Conflict) as caught:
        holding.hold(home, on("cnew", "left"), str)
    assert (caught.value.field, caught.value.data["container"]) == ("networks[0].address", "cold")
    with pytest.raises(Conflict):
        addresses.take_address(home, left, "cnew", "192.168.77.2")
    assert addresses.take_address(home, left, "cnew") == "192.168.77.3"
    assert addresses.take_address(home, left, "cold", "192.168.77.2") == "192.168.77.2"
    assert holding.hold_again(home, old) == ()


def test_an_address_of_a_network_that_the_node_routes_is_none_of_a_flat_ones(
    flat: tuple[Home, Segment, Segment],
) -> None:
    home, left, _ = flat
    segments = Segments(home, TenantSlots(home))
    routed = segments.create(NetworkSpec("tenant1", "routed"))
    same = segments.create(NetworkSpec("tenant1", "same", subnet=routed.subnet, parent="brsame"))
    address = addresses.take_address(home, routed, "cfirst")
    assert addresses.take_address(home, same, "csecond", address) == address
    assert addresses.take_address(home, left, "cthird", "192.168.77.2")
