"""Flows of datagrams that are forgotten, in a network namespace that ends with the test; the kernel itself tells how many there are."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.kernel import conntrack
from runtime.kernel.namespaces import inside_network
from tests.kernel.test_rtnetlink import another
from tests.marks import no_cgroup

pytestmark = [pytest.mark.root, no_cgroup]
TRACKS = """table inet t {
  chain everything { type filter hook output priority 0; ct state invalid drop; }
  chain datagrams { type filter hook output priority raw; meta l4proto != udp notrack; }
}"""
"""Datagrams and nothing else, such as what interfaces say of themselves."""
ELSEWHERE = "198.18.77.2"
"""On a bridge that nobody is on."""


@pytest.fixture
def namespace() -> Iterator[Path]:
    """Tracks flows, has both families on lo, and a way to another host."""
    with another() as pid:
        enter = ["nsenter", "--target", str(pid), "--net"]
        for words in (
            ["ip", "link", "set", "lo", "up"], ["ip", "link", "add", "far0", "type", "bridge"],
            ["ip", "address", "add", "198.18.77.1/24", "dev", "far0"], ["ip", "link", "set", "far0", "up"],
            ["ip", "neigh", "add", ELSEWHERE, "lladdr", "02:00:00:00:00:09", "dev", "far0"], ["nft", TRACKS],
        ):  # fmt: skip
            subprocess.run([*enter, *words], check=True)
        yield Path(f"/proc/{pid}/ns/net")


def tracked(address: str, port: int, flows: int) -> None:
    """So many datagrams from as many ports of ours."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for number in range(flows):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.bind(("", 20_000 + number))
            sender.sendto(b"x", (address, port))


def count(namespace: Path) -> int:
    command = ["nsenter", f"--net={namespace}", "cat", "/proc/sys/net/netfilter/nf_conntrack_count"]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_flows_to_one_port_of_the_node_are_forgotten_and_no_others(namespace: Path, address: str) -> None:
    with inside_network(namespace):
        tracked(address, 9000, 500)
        tracked(address, 9001, 3)
        tracked(ELSEWHERE, 9000, 4)
        before = count(namespace)
        forgotten = conntrack.forget_udp(9000)
        left = count(namespace)
        again = conntrack.forget_udp(9000)
    assert (before, forgotten, left, again) == (507, 500, 7, 0)


def test_a_port_that_nobody_asked_for_has_none(namespace: Path) -> None:
    with inside_network(namespace):
        assert conntrack.forget_udp(9000) == 0


@pytest.mark.parametrize(("address", "other"), [("127.0.0.1", "127.0.0.2"), ("::1", "::2")])
def test_flows_are_counted_by_who_began_them(namespace: Path, address: str, other: str) -> None:
    with inside_network(namespace):
        tracked(address, 9000, 70)
        assert (conntrack.begun_by(address), conntrack.begun_by(other)) == (70, 0)
