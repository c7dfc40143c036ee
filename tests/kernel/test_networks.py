"""Networks with names: several for a container, internal ones, names, IPv6, bandwidth, flat ones; by real traffic between namespaces."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from runtime.api import Attachment, Limits, Port
from runtime.errors import Conflict, NotFound
from runtime.home import Home
from runtime.kernel import link
from runtime.kernel.process import start_time
from runtime.network import attach
from runtime.network.attach import TenantNetworks
from tests.conftest import patience
from tests.kernel.world import Host, World, outer_address, world
from tests.marks import no_cgroup
from tests.traces import traces

__all__ = ["world"]

pytestmark = [pytest.mark.root, no_cgroup]
SIX = "fd7e::9"


def on(*networks: str | Attachment) -> tuple[Attachment, ...]:
    return tuple(one if isinstance(one, Attachment) else Attachment(one) for one in networks)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience(20)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def place(host: Host, network: str) -> str:
    return next(one.address for one in host.endpoint.places if one.network == network)


def test_a_container_on_two_networks_is_reached_on_both_and_joins_them_for_nobody(world: World) -> None:
    world.network("tenant1", "front")
    world.network("tenant1", "back")
    both = world.host("cboth", "tenant1", networks=on("front", "back"))
    front = world.host("cfront", "tenant1", networks=on("front"))
    back = world.host("cback", "tenant1", networks=on("back"))
    own = world.host("cown", "tenant1")
    world.serve(both, "0.0.0.0", 8080)
    world.serve(back, "0.0.0.0", 8080)
    assert world.reaches(front, place(both, "front"), 8080)
    assert world.reaches(back, place(both, "back"), 8080)
    assert world.reaches(both, place(back, "back"), 8080)
    assert not world.reaches(front, place(both, "back"), 8080)
    assert not world.reaches(front, place(back, "back"), 8080)
    assert not world.reaches(own, place(both, "front"), 8080)


def test_a_port_leads_to_a_container_on_two_networks(world: World) -> None:
    world.network("tenant1", "inner", internal=True)
    world.network("tenant1", "front")
    web = world.host("cweb", "tenant1", Port(8080), networks=on("inner", "front"))
    world.serve(web, "0.0.0.0", 8080)
    assert world.reaches(None, "127.0.0.1", web.endpoint.ports[0].host_port or 0)
    assert web.endpoint.address == place(web, "front")


def test_names_and_aliases_are_known_on_their_network_alone(world: World) -> None:
    world.network("tenant1", "back")
    web = world.host("cweb", "tenant1", name="web", networks=on(Attachment("back", aliases=("www", "all"))))
    db = world.host("cdb", "tenant1", name="db", networks=on(Attachment("back", aliases=("all",)), "default"))
    own = world.host("cown", "tenant1", name="own")
    stranger = world.host("cother", "tenant2", name="other")
    until(lambda: world.ask(web, "db") == {place(db, "back")})
    assert world.ask(db, "www") == {place(web, "back")}
    assert world.ask(db, "all") == {place(web, "back"), place(db, "back")}
    assert world.ask(web, "web", six=True) == set(), "a name that has no IPv6 is no error"
    assert world.ask(own, "db") == {place(db, "default")}
    assert world.ask(own, "web") is None
    assert world.ask(web, "nobody") is None
    for name in ("web", "db", "own", "web.back.slipway.internal", "own.default.slipway.internal"):
        assert world.ask(stranger, name) is None
        assert world.ask(stranger, name, web.endpoint.gateway) is None, "nor another network's server"
    assert world.ask(db, "own.default.slipway.internal", web.endpoint.gateway) == {own.endpoint.address}
    world.networks.detach("cweb")
    until(lambda: world.ask(db, "web", db.endpoint.gateway) is None)
    assert world.ask(db, "all") == {place(db, "back")}


def test_a_network_that_comes_up_later_knows_the_names_of_others(world: World) -> None:
    own = world.host("cown", "tenant1", name="own")
    world.network("tenant1", "back")
    both = world.host("cboth", "tenant1", networks=on("back", "default"))
    until(lambda: world.ask(both, "own.default.slipway.internal") == {own.endpoint.address})


def test_a_name_server_that_was_killed_comes_back_with_all_names(world: World) -> None:
    web, asker = world.host("cweb", "tenant1", name="web"), world.host("cask", "tenant1")
    until(lambda: world.ask(asker, "web") is not None)
    for put_back in (world.networks.restore, lambda: world.host("clate", "tenant1")):
        os.kill(server(web.endpoint.bridge), signal.SIGKILL)
        until(lambda: world.ask(asker, "web") is None)
        put_back()
        until(lambda: world.ask(asker, "web") == {web.endpoint.address})


def test_a_network_that_is_being_taken_down_is_not_missed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Who looked in the midst of a removal warned of rules and bridges that somebody had taken away."""
    world.host("cown", "tenant1")
    world.network("tenant1", "back")
    back = world.host("cback", "tenant1", networks=on("back"))
    home, bridge = Home.from_environment(), back.endpoint.bridge
    with home.lock(attach.LOCK):
        world.networks.names.silence(bridge)
        looks = Thread(target=world.networks.restore)
        looks.start()
        looks.join(0.3)
        assert looks.is_alive(), "it waits for the removal"
        link.remove(bridge)
        (home.run / "bridges" / bridge).unlink()
    looks.join(patience(10))
    assert "put back" not in caplog.text
    assert not link.exists(bridge)


def server(bridge: str) -> int:
    return int((Home.from_environment().run / "dns" / bridge / "server/pid").read_text())


def test_a_container_that_is_renamed_is_known_by_its_new_name_alone(world: World) -> None:
    web, asker = world.host("cweb", "tenant1", name="web"), world.host("cask", "tenant1")
    until(lambda: world.ask(asker, "web") == {web.endpoint.address})
    world.networks.rename("cweb", "site")
    until(lambda: world.ask(asker, "site") == {web.endpoint.address})
    assert world.ask(asker, "web") is None


def test_rules_of_an_older_version_are_replaced(world: World) -> None:
    """As an upgrade finds them, with containers that run."""
    web, neighbour = world.host("cweb", "tenant1", Port(8080)), world.host("cneigh", "tenant1")
    world.serve(web, "0.0.0.0", 8080)
    home = Home.from_environment()
    subprocess.run(
        ["nft", "-f", "-"], check=True, text=True,
        input="".join(f"delete table {family} {home.table}\nadd table {family} {home.table}\n" for family in ("inet", "bridge")),
    )  # fmt: skip
    (home.run / "bridges" / web.endpoint.bridge).write_text("tenant1")
    pid = server(web.endpoint.bridge)
    os.kill(pid, signal.SIGKILL)
    until(lambda: start_time(pid) is None)
    world.networks.restore()
    assert world.reaches(neighbour, web.endpoint.address, 8080)
    assert world.reaches(None, "127.0.0.1", web.endpoint.ports[0].host_port or 0)


def test_a_name_server_has_no_privileges(world: World) -> None:
    web = world.host("cweb", "tenant1")
    rows = dict(
        line.split(":", 1) for line in Path(f"/proc/{server(web.endpoint.bridge)}/status").read_text().splitlines()
    )
    assert rows["Uid"].split()[0] != "0"
    assert int(rows["CapPrm"], 16) == 0


def test_a_published_port_53_takes_nobodys_questions(world: World) -> None:
    """A container may serve names to the world; what its neighbours ask their own network is not the world's."""
    with_port = world.host("cserver", "tenant2", Port(9000, "udp", host_port=None))
    thief = world.host("cthief", "tenant2", Port(9000, "udp", host_port=53, host_address=with_port.endpoint.gateway))
    web, asker = world.host("cweb", "tenant2", name="web"), world.host("cask", "tenant2")
    assert thief.endpoint.ports[0].host_port == 53
    until(lambda: world.ask(asker, "web") == {web.endpoint.address})


def test_an_internal_network_has_no_way_out(world: World) -> None:
    world.network("tenant1", "inner", internal=True, ipv6=True)
    inner = world.host("cinner", "tenant1", networks=on("inner"))
    friend = world.host("cfriend", "tenant1", name="friend", networks=on("inner"))
    web = world.host("cweb", "tenant1", Port(8080))
    world.serve(web, "0.0.0.0", 8080)
    world.serve(friend, "0.0.0.0", 8080)
    assert world.reaches(inner, friend.endpoint.address, 8080)
    until(lambda: world.ask(inner, "friend") == {friend.endpoint.address})
    assert world.ask(inner, "example.org") is None
    address = outer_address()
    machine = world.outside(address)
    world.serve(machine, "0.0.0.0", 80)
    assert world.reaches(web, address, 80)
    for network in ("0.0.0.0/1", "128.0.0.0/1"):
        subprocess.run(inner.inside("ip", "route", "add", network, "via", inner.endpoint.gateway), check=True)
    assert not world.reaches(inner, address, 80)
    published = web.endpoint.ports[0].host_port or 0
    assert not world.reaches(inner, inner.endpoint.gateway, published)
    assert not world.reaches(inner, web.endpoint.address, 8080)
    assert not world.reaches(web, friend.endpoint.address, 8080)


# IPv6 ------------------------------------------------------------------------------------------------------


@pytest.fixture
def six(world: World) -> World:
    for tenant in ("tenant1", "tenant2"):
        world.network(tenant, "six", ipv6=True)
    return world


def six_of(host: Host) -> str:
    return host.endpoint.main.address6


def test_who_reaches_whom_over_ipv6(six: World) -> None:
    web = six.host("cweb", "tenant1", Port(8080, host_address="::"), networks=on("six"), name="web")
    neighbour = six.host("cneigh", "tenant1", networks=on("six"))
    stranger = six.host("cother", "tenant2", networks=on("six"))
    six.serve(web, "::", 8080)
    published = web.endpoint.ports[0].host_port or 0
    until(lambda: six.ask(neighbour, "web", six=True) == {six_of(web)})
    assert six.reaches(neighbour, six_of(web), 8080)
    assert not six.reaches(stranger, six_of(web), 8080)
    assert six.reaches(None, web.endpoint.main.gateway6, published)
    assert six.reaches(web, web.endpoint.main.gateway6, published), "its own published port"
    assert six.reaches(stranger, stranger.endpoint.main.gateway6, published), "what is published is everybody's"
    assert not six.reaches(None, "127.0.0.1", published)


def test_a_tenant_goes_out_over_ipv6_as_the_node_and_is_reached_by_published_ports_alone(six: World) -> None:
    machine = six.outside(SIX)
    six.serve(machine, "::", 8080)
    web = six.host("cweb", "tenant1", Port(8080, host_address="::"), networks=on("six"))
    six.serve(web, "::", 8080)
    seen = six.seen_as(web, SIX, 8080)
    assert seen
    assert seen != six_of(web), "its own address is nobody's outside"
    assert six.reaches(machine, seen, web.endpoint.ports[0].host_port or 0)
    assert not six.reaches(machine, six_of(web), 8080)


def test_the_nodes_own_services_are_not_a_tenants_over_ipv6(six: World) -> None:
    guest = six.host("cguest", "tenant1", networks=on("six"))
    gateway = guest.endpoint.main.gateway6
    six.serve(None, gateway, 18999)
    assert not six.reaches(guest, gateway, 18999)
    scope = subprocess.run(
        ["ip", "-6", "-o", "addr", "show", "dev", guest.endpoint.bridge, "scope", "link"],
        check=True, capture_output=True, text=True,
    ).stdout.split()[3].partition("/")[0]  # fmt: skip
    six.serve(None, f"{scope}%{guest.endpoint.bridge}", 18999)
    assert not six.reaches(guest, f"{scope}%eth0", 18999)


def test_a_container_is_a_router_for_nobody(six: World) -> None:
    """Neither the node nor a neighbour takes an advertisement, and it does not even arrive."""
    thief = six.host("cthief", "tenant1", networks=on("six"))
    victim = six.host("cvictim", "tenant1", networks=on("six"))
    assert heard(victim, lambda: send(thief, NEIGHBOUR, mac=thief, ip=thief, target=thief))
    assert not heard(victim, lambda: send(thief, ROUTER, mac=thief, ip=thief))
    for interface in (thief.endpoint.bridge,):
        routes = subprocess.run(
            ["ip", "-6", "route", "show", "dev", interface], check=True, capture_output=True, text=True
        )
        assert "default" not in routes.stdout
        assert Path(f"/proc/sys/net/ipv6/conf/{interface}/accept_ra").read_text().strip() == "0"


@pytest.mark.parametrize("lie", ["mac", "ip", "target"])
def test_a_neighbour_that_lies_is_not_heard(six: World, lie: str) -> None:
    """Of its MAC, its address, or whose address it tells."""
    thief = six.host("cthief", "tenant1", networks=on("six"))
    victim = six.host("cvictim", "tenant1", networks=on("six"))
    other = six.host("cother", "tenant1", networks=on("six"))
    truth = {"mac": thief, "ip": thief, "target": thief}
    assert heard(victim, lambda: send(thief, NEIGHBOUR, **truth))
    assert not heard(victim, lambda: send(thief, NEIGHBOUR, **{**truth, lie: other}))


@pytest.mark.parametrize("lie", ["mac", "sender", "ip"])
def test_an_arp_answer_that_lies_is_not_heard(world: World, lie: str) -> None:
    """Also not one whose frame alone bears another's MAC, by which a bridge learns where that one is."""
    thief, victim, other = (world.host(name, "tenant1") for name in ("cthief", "cvictim", "cother"))
    truth = {"mac": thief, "sender": thief, "ip": thief}
    assert heard(victim, lambda: send(thief, ARP, **truth))
    assert not heard(victim, lambda: send(thief, ARP, **{**truth, lie: other}))


NEIGHBOUR = """
body = b"\\x88\\0\\0\\0\\x20\\0\\0\\0" + six(target) + b"\\x02\\x01" + mac
frame = packet6(b"\\x88", body)
"""
ROUTER = """
body = b"\\x86\\0\\0\\0\\x40\\0\\xff\\xff" + bytes(8) + b"\\x01\\x01" + mac
frame = packet6(b"\\x86", body)
"""
ARP = """
frame = b"\\xff" * 6 + mac + b"\\x08\\x06" + b"\\0\\x01\\x08\\0\\x06\\x04\\0\\x02" + sender + four(ip) + bytes(6) + four(ip)
"""
SEND = """
import ipaddress, socket, struct, sys
words = dict(word.split("=", 1) for word in sys.argv[1:])
def octets(text): return bytes.fromhex(text.replace(":", ""))
def six(text): return ipaddress.IPv6Address(text).packed
def four(text): return ipaddress.IPv4Address(text).packed
def packet6(kind, body):
    to = six("ff02::1")
    false = six(ip) + to + struct.pack(">I3xB", len(body), 58)
    total = sum(struct.unpack(">%dH" % (len(false + body) // 2), false + body))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    body = body[:2] + struct.pack(">H", ~total & 0xffff) + body[4:]
    return bytes.fromhex("333300000001") + mac + b"\\x86\\xdd" + struct.pack(">IHBB", 6 << 28, len(body), 58, 255) + six(ip) + to + body
mac, ip = octets(words["mac"]), words["ip"]
target, sender = words.get("target", ""), octets(words.get("sender", ""))
"""
FINISH = """
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind(("eth0", 0))
    for _ in range(3): raw.send(frame)
"""
HEAR = """
import select, socket, sys, time
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
    raw.bind(("eth0", 0))
    print("ready", flush=True)
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        if select.select([raw], [], [], 0.1)[0]:
            frame, origin = raw.recvfrom(2048)
            told = frame[12:14] == b"\\x08\\x06" and frame[20:22] == b"\\0\\x02" or frame[12:14] == b"\\x86\\xdd" and frame[54] in (134, 136)
            if origin[2] != socket.PACKET_OUTGOING and told: sys.exit(print("heard"))
"""


def send(thief: Host, kind: str, **claims: Host) -> None:
    family6 = kind != ARP
    words = [
        f"{name}={host.endpoint.mac if name in {'mac', 'sender'} else six_of(host) if family6 else host.endpoint.address}"
        for name, host in claims.items()
    ]
    subprocess.run(
        thief.inside("/usr/bin/python3", "-c", SEND + kind + FINISH, *words), check=True, timeout=patience(10)
    )


def heard(victim: Host, deed: Callable[[], None]) -> bool:
    """Whether an answer of ARP, a neighbour's or a router's advertisement arrives."""
    listener = subprocess.Popen(
        victim.inside("/usr/bin/python3", "-c", HEAR, str(patience(1.5))), stdout=subprocess.PIPE, text=True
    )
    assert listener.stdout
    with listener:
        assert listener.stdout.readline() == "ready\n"
        deed()
        return "heard" in listener.stdout.read()


# bandwidth -------------------------------------------------------------------------------------------------

RATE = 8_000_000
POUR = """
import socket, sys, time
patient = time.monotonic() + 20
while True:
    try:
        peer = socket.create_connection((sys.argv[1], 9000))
        break
    except ConnectionRefusedError:  # who answers is not there yet
        assert time.monotonic() < patient
        time.sleep(0.05)
with peer:
    peer.settimeout(1)
    peer.sendall(sys.argv[2].encode())
    total, end = 0, time.monotonic() + float(sys.argv[3])
    while time.monotonic() < end:
        try:
            total += peer.send(bytes(65536)) if sys.argv[2] == "d" else len(peer.recv(65536))
        except TimeoutError:
            pass
"""
WELL = """
import socket
with socket.create_server(("0.0.0.0", 9000)) as well:
    while True:
        peer, _ = well.accept()
        try:
            if peer.recv(1) == b"d":
                while peer.recv(65536): pass
            else:
                while True: peer.sendall(bytes(65536))
        except OSError:
            pass
"""


@pytest.mark.parametrize(("limit", "bound", "free"), [("net_rx_bps", "d", "u"), ("net_tx_bps", "u", "d")])
def test_bandwidth_is_bounded_one_way_over_all_networks(world: World, limit: str, bound: str, free: str) -> None:
    world.network("tenant1", "back")
    limits = Limits(**{limit: RATE})  # type: ignore[arg-type]
    slow = world.host("cslow", "tenant1", networks=on("default", "back"), limits=limits)
    asker = world.host("cask", "tenant1", networks=on("default", "back"))
    open_well(world, slow)
    seconds = 2.0
    passed = poured(slow, asker, bound, seconds)
    assert RATE / 8 * seconds / 4 < passed < RATE / 8 * seconds * 3, "both networks together have the rate of one"
    assert poured(slow, asker, free, seconds) > 10 * passed


def test_bandwidth_changes_while_a_container_runs(world: World) -> None:
    slow = world.host("cslow", "tenant1", limits=Limits(net_rx_bps=RATE))
    asker = world.host("cask", "tenant1")
    open_well(world, slow)
    received, sent = Home.from_environment().shapers("cslow")
    bound = poured(slow, asker, "d", 1.0)
    world.networks.reshape("cslow", None, RATE)
    assert (link.exists(received), link.exists(sent)) == (False, True)
    assert poured(slow, asker, "d", 1.0) > 10 * bound
    assert poured(slow, asker, "u", 1.0) < 3 * RATE / 8
    world.networks.reshape("cslow", None, 8 * RATE)
    world.networks.reshape("cslow", None, None)
    assert not link.exists(sent)
    assert poured(slow, asker, "u", 1.0) > 10 * bound


def open_well(world: World, slow: Host) -> None:
    world.spawn(*slow.inside("/usr/bin/python3", "-c", WELL))
    probe = "import socket; socket.create_connection(('127.0.0.1', 9000)).close()"
    until(
        lambda: (
            not subprocess.run(
                slow.inside("/usr/bin/python3", "-c", probe), check=False, capture_output=True
            ).returncode
        )
    )


def poured(slow: Host, asker: Host, way: str, seconds: float) -> int:
    """Bytes that arrived at whom the flow goes to, as the kernel counts them there: behind the bucket."""
    receiver = slow if way == "d" else asker
    before = arrived(receiver)
    flows = [
        subprocess.Popen(asker.inside("/usr/bin/python3", "-c", POUR, one.address, way, str(seconds)))
        for one in slow.endpoint.places
    ]
    assert not any(flow.wait(patience(30)) for flow in flows)
    return arrived(receiver) - before


def arrived(host: Host) -> int:
    table = subprocess.run(host.inside("cat", "/proc/self/net/dev"), check=True, capture_output=True, text=True).stdout
    rows = (line.replace(":", " ").split() for line in table.splitlines()[2:])
    return sum(int(row[1]) for row in rows if row[0].startswith("eth"))


# flat ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bridge(world: World) -> Iterator[str]:
    """One of the node's own, which an admin has allowed."""
    name = f"f{secrets.token_hex(4)}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    world.networks = TenantNetworks(replace(Home.from_environment(), flat_bridges=(name,)))
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


def test_a_container_on_a_bridge_of_the_node(world: World, bridge: str) -> None:
    world.network("tenant1", "site", subnet="192.168.77.0/24", parent=bridge, gateway="192.168.77.254")
    machine = world.outside(outer_address())
    for command in (
        ["ip", "link", "add", f"{bridge}o", "master", bridge, "type", "veth", "peer", "name", "eth1", "netns", str(machine.pid)],
        ["ip", "link", "set", f"{bridge}o", "up"],
        machine.inside("ip", "addr", "add", "192.168.77.200/24", "dev", "eth1"), machine.inside("ip", "link", "set", "eth1", "up"),
    ):  # fmt: skip
        subprocess.run(command, check=True)
    web = world.host("cweb", "tenant1", networks=on(Attachment("site", "192.168.77.10")))
    thief = world.host("cthief", "tenant1", networks=on(Attachment("site", "192.168.77.11")))
    world.serve(web, "0.0.0.0", 8080)
    world.serve(machine, "0.0.0.0", 8080)
    assert world.seen_as(web, "192.168.77.200", 8080) == "192.168.77.10", "as itself, not as the node"
    assert world.reaches(machine, "192.168.77.10", 8080)
    subprocess.run(thief.inside("ip", "addr", "add", "192.168.77.12/24", "dev", "eth0"), check=True)
    assert world.reaches(thief, "192.168.77.200", 8080)
    assert not world.reaches(thief, "192.168.77.200", 8080, "192.168.77.12")


def test_a_bridge_that_is_allowed_no_longer_takes_nobody(world: World, bridge: str) -> None:
    world.network("tenant1", "site", subnet="192.168.77.0/24", parent=bridge)
    world.networks = TenantNetworks(Home.from_environment())
    with pytest.raises(NotFound) as caught:
        world.reserve("cweb", "tenant1", networks=on("site"))
    assert caught.value.field == "networks"
    assert not list(world.networks.belongings())


def test_what_a_network_took_with_it(world: World) -> None:
    """A network that goes leaves no bridge, server, rule or route."""
    home = Home.from_environment()
    world.host("cother", "tenant1")
    before = traces(home)
    segment = world.network("tenant1", "back", ipv6=True, internal=True)
    world.host("cweb", "tenant1", networks=on("back"))
    pid = server(segment.bridge)
    world.networks.detach("cweb")
    world.networks.segments.forget("tenant1", "back")
    world.networks.take_down(segment)
    assert not link.exists(segment.bridge)
    assert start_time(pid) is None
    new = traces(home).new_since(before)
    assert not {kind for kind in new if kind != "files"}


def test_a_network_is_not_made_on_what_the_node_routes(world: World) -> None:
    machine = world.outside("192.168.79.9")
    near = subprocess.run(
        machine.inside("ip", "route", "show", "default"), check=True, capture_output=True, text=True
    ).stdout.split()[2]
    assert near
    subprocess.run(["ip", "route", "add", "172.31.200.0/24", "via", near.rsplit(".", 1)[0] + ".2"], check=True)
    with pytest.raises(Conflict) as caught:
        world.network("tenant1", "back", subnet="172.31.0.0/16")
    assert caught.value.field == "subnet"
