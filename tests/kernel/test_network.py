"""Tenants' networks, with real namespaces and real traffic between them: who reaches whom, and who does not."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from runtime.api import Port
from runtime.home import Home
from runtime.kernel import link
from runtime.network.attach import Endpoint, TenantNetworks
from tests.conftest import Place, patience
from tests.traces import traces

pytestmark = pytest.mark.root
SERVER = (
    "import http.server, sys; http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])),"
    " http.server.SimpleHTTPRequestHandler).serve_forever()"
)
FETCH = (
    "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=float(sys.argv[4]),"
    " source_address=(sys.argv[3], 0) if sys.argv[3] else None); c.request('GET', '/'); print(c.getresponse().status)"
)
ANSWER_S = max(2.0, patience(0.5))
"""For a server that is there; one that cannot be reached costs all of it."""


class Host:
    """A network namespace with an endpoint, as a container has."""

    def __init__(self, pid: int, endpoint: Endpoint) -> None:
        self.pid = pid
        self.endpoint = endpoint

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]


class World:
    def __init__(self, networks: TenantNetworks) -> None:
        self.networks = networks
        self._children: list[subprocess.Popen[bytes]] = []

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._children.append(child)
        return child

    def host(self, name: str, tenant: str, *ports: Port) -> Host:
        child = self.spawn("unshare", "--net", "sleep", "600")
        while os.readlink(f"/proc/{child.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        endpoint = self.networks.reserve(name, tenant, ports)
        self.networks.admit(endpoint)
        self.networks.attach(endpoint, child.pid)
        return Host(child.pid, endpoint)

    def serve(self, host: Host | None, address: str, port: int) -> None:
        command = ["/usr/bin/python3", "-c", SERVER, address, str(port)]
        self.spawn(*(host.inside(*command) if host else command))
        deadline = time.monotonic() + patience(5)
        while not self.reaches(host, "127.0.0.1" if host else address, port):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    @staticmethod
    def reaches(host: Host | None, address: str, port: int, source: str = "") -> bool:
        command = ["/usr/bin/python3", "-c", FETCH, address, str(port), source, str(ANSWER_S)]
        done = subprocess.run(
            host.inside(*command) if host else command, check=False, capture_output=True, timeout=patience(10)
        )
        return done.stdout == b"200\n"

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()


@pytest.fixture
def world(place: Place) -> Iterator[World]:
    home = Home.from_environment()
    made = World(TenantNetworks(home))
    yield made
    made.close()
    made.networks.teardown()
    left = traces(home)
    assert not left.interfaces
    assert not left.firewall
    assert not left.mounts


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
    again = world.networks.reserve("cagain", "tenant1", (Port(8080, host_port=web.endpoint.ports[0].host_port),))
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
    world.networks.reserve("cknown", "tenant1", (Port(80),))
    lost = world.networks.reserve("clost", "tenant1", (Port(80, host_port=30999),))
    Home.from_environment().run.joinpath("endpoints", "clost.json").unlink()
    assert {what for id, what in world.networks.belongings() if id == "clost"} == {
        f"address:{lost.address}",
        "port:tcp-0.0.0.0-30999",
    }
    world.networks.detach("clost")
    assert {id for id, _ in world.networks.belongings()} == {"cknown"}
