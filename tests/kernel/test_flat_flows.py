"""Connections of containers on a bridge of the node's own: they are in the node's table, to the node always, and past it with br_netfilter."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import Attachment
from runtime.home import Home
from runtime.kernel import conntrack
from runtime.network import addresses, endpoint, firewall, placement
from runtime.network.attach import TenantNetworks
from tests.blocks import free_number
from tests.conftest import patience
from tests.kernel.test_flows import FLOOD_ONE, MANY, flood
from tests.kernel.test_networks import on
from tests.kernel.world import Host, World, outer_address, world
from tests.marks import no_cgroup

__all__ = ["world"]
pytestmark = [pytest.mark.root, no_cgroup]
FILTERED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
"""There while br_netfilter is loaded."""


class Site:
    """A bridge of the node's with the node on it, and a machine beyond it."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.bridge = f"f{secrets.token_hex(4)}"
        self.net = f"192.168.{number}"
        self.node = f"{self.net}.1"

    def up(self) -> None:
        self._ip(f"link add {self.bridge} type bridge")
        self._ip(f"addr add {self.node}/24 dev {self.bridge}")
        self._ip(f"link set {self.bridge} up")
        if FILTERED.exists():
            Path(f"/sys/class/net/{self.bridge}/bridge/nf_call_iptables").write_text("1")
        self.world.networks = TenantNetworks(replace(Home.from_environment(), flat_bridges=(self.bridge,)))
        self.world.network("tenant1", "site", subnet=f"{self.net}.0/24", parent=self.bridge)

    def down(self) -> None:
        self._ip(f"link del {self.bridge}")

    def container(self, id: str, last: int) -> Host:
        return self.world.host(id, "tenant1", networks=on(Attachment("site", f"{self.net}.{last}")))

    def machine(self) -> tuple[Host, str]:
        address = f"{self.net}.200"
        made = self.world.outside(outer_address())
        self._ip(f"link add {self.bridge}o master {self.bridge} type veth peer name eth1 netns {made.pid}")
        self._ip(f"link set {self.bridge}o up")
        for words in (f"addr add {address}/24 dev eth1", "link set eth1 up"):
            subprocess.run(made.inside("ip", *words.split()), check=True)
        return made, address

    @staticmethod
    def _ip(words: str) -> None:
        subprocess.run(["ip", *words.split()], check=True)


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    made = Site(world, free_number("192.168", 250))
    made.up()
    yield made
    made.down()


@pytest.fixture
def most(site: Site) -> int:
    return firewall.flows(Home.from_environment())


def begun_by(address: str) -> int:
    found = conntrack.begun_by(address)
    assert found is not None
    return found


def test_what_a_container_begins_at_the_node_has_its_share(site: Site, most: int) -> None:
    flooder, neighbour = site.container("cflood", 10), site.container("cnext", 11)
    site.world.serve(None, site.node, 8080)
    assert site.world.reaches(flooder, site.node, 8080)
    flood(flooder, site.node)
    assert most * 0.9 < begun_by(flooder.endpoint.address) <= most + 1, "counted, and no more than its share"
    assert not site.world.reaches(flooder, site.node, 8080), "it would be one too many"
    assert site.world.reaches(neighbour, site.node, 8080)


@pytest.mark.skipif(not FILTERED.exists(), reason="no br_netfilter here: what passes a bridge is in no table")
def test_what_passes_the_bridge_has_its_share_where_the_node_tracks_it(site: Site, most: int) -> None:
    flooder, neighbour = site.container("cflood", 10), site.container("cnext", 11)
    machine, address = site.machine()
    site.world.serve(machine, "0.0.0.0", 8080)
    flood(flooder, address)
    assert most * 0.9 < begun_by(flooder.endpoint.address) <= most + 1
    assert not site.world.reaches(flooder, address, 8080)
    assert site.world.reaches(neighbour, address, 8080)


@pytest.mark.skipif(not FILTERED.exists(), reason="no br_netfilter here: what passes a bridge is in no table")
def test_what_comes_to_a_container_has_its_share_there(site: Site, most: int) -> None:
    web, other = site.container("cweb", 10), site.container("cother", 11)
    machine, address = site.machine()
    site.world.serve(other, "0.0.0.0", 8080)
    command = ("/usr/bin/python3", "-c", FLOOD_ONE, web.endpoint.address, "9", str(MANY))
    subprocess.run(machine.inside(*command), check=True, timeout=patience(60))
    assert most * 0.9 < begun_by(address) <= most + 1
    assert site.world.reaches(machine, other.endpoint.address, 8080)


def test_rules_from_before_there_was_such_a_limit_are_not_these(site: Site) -> None:
    home = Home.from_environment()
    site.container("cweb", 10)
    assert firewall.present(home)
    subprocess.run(["nft", "flush", "chain", "inet", home.table, "tracked"], check=True)
    subprocess.run(["nft", "delete", "chain", "inet", home.table, "flat_began"], check=True)
    assert not firewall.present(home)


def test_one_that_runs_since_a_version_without_it_has_its_share_once_it_is_kept(site: Site) -> None:
    home = Home.from_environment()
    made = site.container("cweb", 10).endpoint
    leases = addresses.address_claims(home, "tenant1")
    old = replace(made, places=(replace(made.main, flat=False),))
    firewall.expel(home, made)
    firewall.admit(home, old)
    leases.free_all("cweb")
    leases.take(made.address, "cweb")
    endpoint.save(home, old)
    site.world.networks.keep(old)
    assert site.world.networks.endpoint("cweb") == made
    assert leases.names() == (f"{made.address}@{site.bridge}",)
    assert placement.strays(home) == ()
    rules = subprocess.run(
        ["nft", "list", "table", "inet", home.table], check=True, capture_output=True, text=True
    ).stdout
    assert f'elements = {{ "{site.bridge}" . {made.address} }}' in rules
    assert f'"{site.bridge}" . {made.mac} . {made.address}' in rules
    site.world.networks.detach("cweb")
    assert leases.names() == ()
