"""Tenants' networks, with real namespaces and real traffic between them: who reaches whom, and who does not."""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.api import Port
from runtime.home import Home
from runtime.kernel import link
from tests.conftest import patience
from tests.kernel.world import SERVER, World, outer_address, world
from tests.marks import no_cgroup

__all__ = ["world"]

pytestmark = [pytest.mark.root, no_cgroup]

ECHO = (
    "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 9000))\n"
    "while True: s.sendto(sys.argv[1].encode(), s.recvfrom(100)[1])"
)


def test_who_reaches_whom(world: World) -> None:
    web = world.host("cweb", "tenant1", Port(8080))
    neighbour, stranger = world.host("cneigh", "tenant1"), world.host("cother", "tenant2")
    world.serve(web, "0.0.0.0", 8080)
    address, published = web.endpoint.address, web.endpoint.ports[0].host_port or 0
    assert world.reaches(neighbour, address, 8080)
    assert not world.reaches(stranger, address, 8080)
    assert world.reaches(None, "127.0.0.1", published)
    assert world.reaches(None, web.endpoint.gateway, published)
    assert world.reaches(web, web.endpoint.gateway, published), "its own published port"
    assert world.reaches(neighbour, neighbour.endpoint.gateway, published)


def test_a_port_published_at_one_address(world: World) -> None:
    web = world.host("cweb", "tenant1", Port(8080, host_address="127.0.0.1"))
    world.serve(web, "0.0.0.0", 8080)
    published = web.endpoint.ports[0].host_port or 0
    assert world.reaches(None, "127.0.0.1", published)
    assert not world.reaches(None, web.endpoint.gateway, published)


def test_the_nodes_own_services_are_not_a_tenants(world: World) -> None:
    guest = world.host("cguest", "tenant1")
    world.serve(None, guest.endpoint.gateway, 18999)
    assert not world.reaches(guest, guest.endpoint.gateway, 18999)


def test_a_port_of_the_nodes_loopback_is_not_a_tenants(world: World) -> None:
    """A frame to 127.0.0.1 that comes in on a bridge: nobody can send one without privileges in its network namespace."""
    web = world.host("cweb", "tenant1", Port(8080, host_address="127.0.0.1"))
    guest = world.host("cguest", "tenant2")
    world.serve(web, "0.0.0.0", 8080)
    for command in (
        "ip link set lo down", "ip rule add pref 1 lookup 100", "ip rule del pref 0", "ip rule add pref 2 lookup local",
        f"ip route add 127.0.0.1 via {guest.endpoint.gateway} src {guest.endpoint.address} table 100",
        "cp /dev/stdin /proc/sys/net/ipv4/conf/eth0/route_localnet",
    ):  # fmt: skip
        subprocess.run(guest.inside(*command.split()), input=b"1", check=True)
    assert not world.reaches(guest, "127.0.0.1", web.endpoint.ports[0].host_port or 0)


def test_the_clouds_own_addresses_are_not_a_tenants(world: World) -> None:
    """Where a cloud tells a node its credentials."""
    guest = world.host("cguest", "tenant1")
    for address, reached in (
        (outer_address(), True),
        (f"169.254.{secrets.randbelow(250)}.{secrets.randbelow(250)}", False),
    ):
        machine = world.outside(address)
        world.spawn("nsenter", f"--net=/proc/{machine.pid}/ns/net", "/usr/bin/python3", "-c", SERVER, "0.0.0.0", "80")
        deadline = time.monotonic() + patience(5)
        while not world.reaches(None, address, 80):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert world.reaches(guest, address, 80) is reached


def test_a_bridge_keeps_its_address_whoever_comes_and_goes(world: World) -> None:
    """Else what the members know of their gateway is wrong for some seconds."""
    seen = set()
    for number in range(12):
        host = world.host(f"c{number}x", "tenant1")
        seen.add(Path(f"/sys/class/net/{host.endpoint.bridge}/address").read_text())
        if number % 3 == 2:
            world.networks.detach(f"c{number - 1}x")
    assert len(seen) == 1


def test_a_bridge_whose_making_a_crash_cut_short_is_finished(world: World) -> None:
    bridge = world.networks.tenant("tenant1").bridge
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    web, neighbour = world.host("cweb", "tenant1"), world.host("cneigh", "tenant1")
    world.serve(web, "0.0.0.0", 8080)
    assert world.reaches(neighbour, web.endpoint.address, 8080)
    assert world.reaches(None, web.endpoint.address, 8080)


def test_rules_that_somebody_flushed_are_put_back(world: World) -> None:
    """As a restarted nftables service does, to all tables; here to ours alone."""
    web = world.host("cweb", "tenant1", Port(8080))
    stranger = world.host("cother", "tenant2")
    world.serve(web, "0.0.0.0", 8080)
    table = Home.from_environment().table
    subprocess.run(["nft", f"delete table inet {table}; delete table bridge {table}"], check=True)
    assert not world.reaches(None, "127.0.0.1", web.endpoint.ports[0].host_port or 0)
    world.networks.restore()
    assert world.reaches(None, "127.0.0.1", web.endpoint.ports[0].host_port or 0)
    assert not world.reaches(stranger, web.endpoint.address, 8080)
    subprocess.run(["nft", f"delete table inet {table}; delete table bridge {table}"], check=True)
    late = world.host("clate", "tenant1")
    assert world.reaches(late, web.endpoint.address, 8080), "a launch does it, too"
    assert not world.reaches(stranger, web.endpoint.address, 8080)


def test_a_bridge_that_somebody_deleted_is_put_back_with_its_members(world: World) -> None:
    web, neighbour = world.host("cweb", "tenant1", Port(8080)), world.host("cneigh", "tenant1")
    world.serve(web, "0.0.0.0", 8080)
    subprocess.run(["ip", "link", "del", web.endpoint.bridge], check=True)
    world.networks.restore()
    assert world.reaches(neighbour, web.endpoint.address, 8080)
    assert world.reaches(web, web.endpoint.gateway, web.endpoint.ports[0].host_port or 0), "its own published port"


def test_a_port_that_an_earlier_holder_left_in_the_rules_is_taken_over(world: World) -> None:
    old = world.reserve("cold", "tenant1", (Port(8080),))
    world.networks.admit(old)
    Home.from_environment().run.joinpath("endpoints", "cold.json").unlink()
    world.networks.detach("cold")
    world.host("cfirst", "tenant1")
    web = world.host("cweb", "tenant1", Port(8080, host_port=old.ports[0].host_port))
    assert web.endpoint.address != old.address
    world.serve(web, "0.0.0.0", 8080)
    assert world.reaches(None, "127.0.0.1", old.ports[0].host_port or 0)


def test_a_stream_of_datagrams_finds_the_ports_next_holder(world: World) -> None:
    """A sender that never pauses keeps the kernel's memory of its way alive: to the node before, then to a container that is gone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0.2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        sender.bind(("127.0.0.1", 0))
        _ask(sender, port)
        for name in ("cfirst", "csecond"):
            host = world.host(name, "tenant1", Port(9000, "udp", port))
            world.spawn(*host.inside("/usr/bin/python3", "-c", ECHO, name))
            deadline = time.monotonic() + patience(5)
            while (answer := _ask(sender, port)) is None:
                assert time.monotonic() < deadline, f"{name} is not reached"
            assert answer == name.encode()
            world.networks.detach(name)
            world.reserve(f"{name}held", "tenant1", ())  # somebody else has the address now
        assert _ask(sender, port) is None


def _ask(sender: socket.socket, port: int) -> bytes | None:
    """Late answers to earlier questions count for nothing."""
    while select.select([sender], [], [], 0)[0]:
        with contextlib.suppress(ConnectionRefusedError):
            sender.recv(100)
    sender.sendto(b"who", ("127.0.0.1", port))
    try:
        return sender.recv(100)
    except OSError:
        return None


def test_a_spoofed_address_gets_nowhere(world: World) -> None:
    web, thief = world.host("cweb", "tenant1"), world.host("cthief", "tenant1")
    world.serve(web, "0.0.0.0", 8080)
    spoofed = str(web.endpoint.address.rsplit(".", 1)[0] + ".77")
    subprocess.run(thief.inside("ip", "addr", "add", f"{spoofed}/24", "dev", "eth0"), check=True)
    assert world.reaches(thief, web.endpoint.address, 8080)
    assert not world.reaches(thief, web.endpoint.address, 8080, spoofed)


def test_detaching_takes_everything_and_twice_is_once(world: World) -> None:
    web = world.host("cweb", "tenant1", Port(8080))
    gone(lambda: not link.exists(web.endpoint.interface), world, "cweb")
    world.networks.detach("cweb")
    again = world.reserve("cagain", "tenant1", (Port(8080, host_port=web.endpoint.ports[0].host_port),))
    assert again.address == web.endpoint.address
    world.networks.detach("cagain")


def gone(true: Callable[[], bool], world: World, name: str) -> None:
    world.close()
    world.networks.detach(name)
    deadline = time.monotonic() + patience(5)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_belongs_to_whom_is_told_also_without_an_endpoint(world: World) -> None:
    world.reserve("cknown", "tenant1", (Port(80),))
    lost = world.reserve("clost", "tenant1", (Port(80, host_port=30999),))
    Home.from_environment().run.joinpath("endpoints", "clost.json").unlink()
    assert {what for id, what in world.networks.belongings() if id == "clost"} == {
        f"address:{lost.address}",
        "port:tcp-0.0.0.0-30999",
    }
    world.networks.detach("clost")
    assert {id for id, _ in world.networks.belongings()} == {"cknown"}
