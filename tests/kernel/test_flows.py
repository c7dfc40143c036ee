"""Connections that the node tracks: a container that opens all it can has its share of the table, and a neighbour's still go through."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import Port
from runtime.home import Home
from runtime.kernel import conntrack, nft
from runtime.network import firewall
from tests.conftest import patience
from tests.kernel.test_networks import on
from tests.kernel.world import Host, World, outer_address, world
from tests.marks import no_cgroup

__all__ = ["world"]
pytestmark = [pytest.mark.root, no_cgroup]
FLOOD = (
    "import socket, sys; family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
    "with socket.socket(family, socket.SOCK_DGRAM) as sender:\n"
    "    for port in range(1, int(sys.argv[2]) + 1): sender.sendto(b'x', (sys.argv[1], port)); sender.sendto(b'x', (sys.argv[1], port))"
)
"""Two datagrams to each of so many ports: each port is a connection to the node that carries them."""
FLOOD_ONE = (
    "import socket, sys\n"
    "for one in range(20000, 20000 + int(sys.argv[3])):\n"
    " with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.bind(('', one)); s.sendto(b'x', (sys.argv[1], int(sys.argv[2])))"
)
"""A datagram to one port from each of so many."""
ASK = (
    "import socket, sys, time; question = bytes.fromhex(sys.argv[2])\n"
    "for one in range(int(sys.argv[3])):\n"
    " with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
    "  s.settimeout(10); s.sendto(question, (sys.argv[1], 53)); s.recv(512); time.sleep(float(sys.argv[4]))"
)
"""Each by a port of its own, as programs do that remember no names."""
QUESTION = (b"\x12\x34\x01\0\0\x01" + bytes(6) + b"\x05cnext\0" + b"\0\x01\0\x01").hex()
"""For the address of cnext (RFC 1035, 4.1)."""
MANY = 20_000


def flood(host: Host | None, address: str) -> None:
    command = ["/usr/bin/python3", "-c", FLOOD, address, str(MANY)]
    subprocess.run(host.inside(*command) if host else command, check=True, timeout=patience(60))


@pytest.fixture
def most(world: World) -> int:
    return firewall.flows(Home.from_environment())


def machine(world: World, address: str) -> Host:
    made = world.outside(address)
    world.serve(made, "::" if ":" in address else "0.0.0.0", 8080)
    return made


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_a_flood_of_connections_has_its_share_and_a_neighbour_still_connects(
    world: World, most: int, six: bool
) -> None:
    beyond = outer_address(six=six)
    machine(world, beyond)
    world.network("tenant1", "both", ipv6=True)
    flooder, neighbour = (world.host(name, "tenant1", networks=on("both")) for name in ("cflood", "cnext"))
    stranger = world.host("cstranger", "tenant2")
    main = flooder.endpoint.main
    assert world.reaches(flooder, beyond, 8080)
    flood(flooder, beyond)
    begun = conntrack.begun_by(main.address6 if six else main.address)
    assert begun is not None
    assert most * 0.9 < begun <= most + 1, "counted, and no more than its share"
    assert not world.reaches(flooder, beyond, 8080), "it would be one too many"
    assert world.reaches(neighbour, beyond, 8080)
    if not six:
        assert world.reaches(stranger, beyond, 8080)


def test_a_container_that_a_flood_comes_to_has_its_share_and_opens_its_own(world: World, most: int) -> None:
    beyond = outer_address()
    attacker = machine(world, beyond)
    web = world.host("cweb", "tenant1", Port(9000, "udp"))
    other = world.host("cother", "tenant1", Port(8080))
    world.serve(other, "0.0.0.0", 8080)
    (port,) = web.endpoint.ports
    near, address = ends_of(attacker)
    subprocess.run(
        attacker.inside("/usr/bin/python3", "-c", FLOOD_ONE, near, str(port.host_port), str(MANY)),
        check=True,
        timeout=patience(60),
    )
    begun = conntrack.begun_by(address)
    assert begun is not None
    assert most * 0.9 < begun <= most + 1, "taken in, and no more than the share"
    assert world.reaches(web, beyond, 8080), "what it opens itself is counted apart"
    assert world.reaches(attacker, near, other.endpoint.ports[0].host_port or 0)


def ends_of(host: Host) -> tuple[str, str]:
    """The node as a machine beyond it knows it, and that machine as the node sees it."""
    shown = subprocess.run(
        host.inside("ip", "route", "get", "198.18.255.9"), check=True, capture_output=True, text=True
    )
    words = shown.stdout.split()
    return words[words.index("via") + 1], words[words.index("src") + 1]


def test_the_share_is_a_small_part_of_the_table(most: int) -> None:
    """A container with both families has it four times."""
    assert most * 24 * 4 <= int(firewall.TABLE.read_text()) * 3 / 4, "24 containers of one tenant leave a quarter"


def test_the_first_rules_of_a_node_have_the_share_of_what_it_tracks_from_then_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells how many connections it tracks at most once something has them tracked, as these rules do."""
    table, run = tmp_path / "nf_conntrack_max", nft.run

    def first(batch: str) -> None:
        run(batch)
        table.write_text("65536\n")

    monkeypatch.setattr(firewall, "TABLE", table)
    monkeypatch.setattr(nft, "run", first)
    world.host("cweb", "tenant1")
    assert firewall.flows(Home.from_environment()) == 65536 // firewall.SHARES
    assert firewall.present(Home.from_environment())


def test_another_share_is_put_in_place_of_the_old_one(world: World, most: int) -> None:
    home = Home.from_environment()
    host = world.host("cweb", "tenant1")
    assert firewall.present(home)
    changed = replace(home, flows=most - 1)
    assert not firewall.present(changed), "the rules that are there count otherwise"
    type(world.networks)(changed).restore()
    assert firewall.present(changed)
    members = [row["set"]["elem"] for row in nft.query(f"list set bridge {home.table} members") if "set" in row]
    assert host.endpoint.address in str(members), "what ran goes on"


def test_who_asks_for_many_names_keeps_its_share_of_connections(world: World, most: int) -> None:
    host = world.host("casker", "tenant1")
    neighbour = world.host("cnext", "tenant1")
    world.serve(neighbour, "0.0.0.0", 8080)
    pace_s = 1.6 * firewall.QUESTION_S / most
    asked = ("/usr/bin/python3", "-c", ASK, host.endpoint.main.gateway, QUESTION, str(most + 300), str(pace_s))
    subprocess.run(host.inside(*asked), check=True, timeout=patience(120))
    assert world.reaches(host, neighbour.endpoint.main.address, 8080)
