"""Tenants' networks with network namespaces on them, as containers have, and machines beyond the node."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from runtime.api import ContainerSpec, NetworkSpec, Port
from runtime.home import Home
from runtime.network.attach import TenantNetworks
from runtime.network.endpoint import Endpoint
from runtime.network.segments import Segment
from tests.blocks import free_number
from tests.conftest import Place, patience
from tests.traces import traces

SERVER = (
    "import http.server, socket, sys; kind = http.server.ThreadingHTTPServer\n"
    "kind.address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
    "class Peer(http.server.BaseHTTPRequestHandler):\n"
    " def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(self.client_address[0].encode())\n"
    "kind(socket.getaddrinfo(sys.argv[1], int(sys.argv[2]))[0][4], Peer).serve_forever()"
)
"""Answers each with its own address."""
FETCH = (
    "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=float(sys.argv[4]),"
    " source_address=(sys.argv[3], 0) if sys.argv[3] else None); c.request('GET', '/'); a = c.getresponse(); print(a.status, a.read().decode())"
)
ASK = """
import socket, struct, sys
server, name, kind = sys.argv[1:]
words = b"".join(bytes([len(word)]) + word.encode() for word in name.split("."))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(2)
    asking.sendto(struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + words + b"\\0" + struct.pack(">2H", int(kind), 1), (server, 53))
    try:
        answer = asking.recv(4096)
    except OSError:
        sys.exit(print("nobody"))
if answer[3] & 15:
    sys.exit(print("nobody"))
at = 12 + len(words) + 1 + 4
for _ in range(struct.unpack(">H", answer[6:8])[0]):
    length = struct.unpack(">H", answer[at + 10 : at + 12])[0]
    print(socket.inet_ntop(socket.AF_INET6 if length == 16 else socket.AF_INET, answer[at + 12 : at + 12 + length]))
    at += 12 + length
"""
ANSWER_S = max(2.0, patience(0.5))
"""For a server that is there; one that cannot be reached costs all of it."""


def outer_address(*, six: bool = False) -> str:
    """Of a machine beyond the node."""
    number = free_number("198.19", 250)
    return f"fd7e:{number:x}::9" if six else f"198.19.{number}.9"


class Host:
    """A network namespace with an endpoint, as a container has."""

    def __init__(self, pid: int, endpoint: Endpoint | None) -> None:
        self.pid = pid
        self._endpoint = endpoint

    @property
    def endpoint(self) -> Endpoint:
        assert self._endpoint, "a machine beyond the node has none"
        return self._endpoint

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

    def reserve(self, id: str, tenant: str, ports: tuple[Port, ...] = (), /, **fields: object) -> Endpoint:
        spec = ContainerSpec(id, tenant, id, "sha256:" + "0" * 64, ports=ports)
        return self.networks.reserve(replace(spec, **fields))  # type: ignore[arg-type]

    def host(self, id: str, tenant: str, /, *ports: Port, **fields: object) -> Host:
        child = self.spawn("unshare", "--net", "sleep", "600")
        while os.readlink(f"/proc/{child.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        endpoint = self.reserve(id, tenant, ports, **fields)
        self.networks.admit(endpoint)
        self.networks.attach(endpoint, child.pid)
        return Host(child.pid, endpoint)

    def outside(self, address: str) -> Host:
        """A machine beyond the node, reached by a route, which knows its way back to the node and nothing else's."""
        child = self.spawn("unshare", "--net", "sleep", "600")
        while os.readlink(f"/proc/{child.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        name, inside = f"o{secrets.token_hex(4)}", ["nsenter", f"--net=/proc/{child.pid}/ns/net"]
        number = free_number("198.18", 250)
        near, far = (f"fd7f:{number:x}::{n}" if ":" in address else f"198.18.{number}.{n}" for n in (1, 2))
        quick, length = (["nodad"], "/64") if ":" in address else ([], "/24")
        for command in (
            ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(child.pid)],
            ["ip", "addr", "add", near + length, "dev", name, *quick], ["ip", "link", "set", name, "up"],
            [*inside, "ip", "link", "set", "lo", "up"], [*inside, "ip", "addr", "add", far + length, "dev", "eth0", *quick], [*inside, "ip", "link", "set", "eth0", "up"],
            [*inside, "ip", "addr", "add", address, "dev", "eth0", *quick], [*inside, "ip", "route", "add", "default", "via", near],
            ["ip", "route", "add", address, "via", far],
        ):  # fmt: skip
            subprocess.run(command, check=True)
        return Host(child.pid, None)

    def serve(self, host: Host | None, address: str, port: int) -> None:
        command = ["/usr/bin/python3", "-c", SERVER, address, str(port)]
        self.spawn(*(host.inside(*command) if host else command))
        deadline = time.monotonic() + patience(5)
        while not self.reaches(host, ("::1" if ":" in address else "127.0.0.1") if host else address, port):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    @classmethod
    def reaches(cls, host: Host | None, address: str, port: int, source: str = "") -> bool:
        return cls.seen_as(host, address, port, source) is not None

    @staticmethod
    def seen_as(host: Host | None, address: str, port: int, source: str = "") -> str | None:
        """The address that the server sees; None: it is not reached."""
        command = ["/usr/bin/python3", "-c", FETCH, address, str(port), source, str(ANSWER_S)]
        done = subprocess.run(
            host.inside(*command) if host else command,
            check=False,
            capture_output=True,
            text=True,
            timeout=patience(10),
        )
        return done.stdout.split()[1] if done.stdout.startswith("200 ") else None

    def network(self, tenant: str, name: str, **fields: object) -> Segment:
        return self.networks.segments.create(NetworkSpec(tenant, name, **fields))  # type: ignore[arg-type]

    @staticmethod
    def ask(host: Host, name: str, server: str = "", *, six: bool = False) -> set[str] | None:
        """Whom a name server calls so: addresses, none of this kind (empty), or nobody (None)."""
        command = ["/usr/bin/python3", "-c", ASK, server or host.endpoint.gateway, name, "28" if six else "1"]
        done = subprocess.run(host.inside(*command), check=True, capture_output=True, text=True, timeout=patience(10))
        return None if done.stdout.strip() == "nobody" else set(done.stdout.split())

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
    shutil.rmtree(home.run, ignore_errors=True)
