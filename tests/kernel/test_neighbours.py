"""The node's tables of neighbours, which all network namespaces share: a container that sends to whole networks leaves others their room."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runtime.network import neighbours
from tests.blocks import free_block
from tests.conftest import patience
from tests.kernel.test_networks import on
from tests.kernel.world import Host, World, world
from tests.marks import no_cgroup

__all__ = ["world"]
pytestmark = [pytest.mark.root, no_cgroup]
MANY = 8 * neighbours.MOST
KNOCK = """
import contextlib, ipaddress, socket, sys
first, many = ipaddress.ip_address(sys.argv[1]), int(sys.argv[2])
family = socket.AF_INET if first.version == 4 else socket.AF_INET6
for one in range(many):
    with socket.socket(family, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        sender.sendto(b"x", (str(first + one), 9, 0, int(sys.argv[3]))[: 2 if first.version == 4 else 4])
"""
"""A datagram to each of so many addresses, each from a socket of its own (what waits for its neighbour fills one), of which no other way than over the interface with that number is known."""


def knock(host: Host, first: str, interface: str = "") -> None:
    number = f"$(cat /sys/class/net/{interface}/ifindex)" if interface else "0"
    script = f'mount -t sysfs sysfs /sys; exec /usr/bin/python3 -c "$0" {first} {MANY} {number}'
    inside = ["unshare", "--mount", "sh", "-c", script, KNOCK]
    subprocess.run(host.inside(*inside), check=True, timeout=patience(60))


def known(host: Host) -> int:
    """Entries, of whatever state, that the kernel has of its interfaces."""
    shown = [
        subprocess.run(host.inside("ip", *six, "neigh", "show", "nud", "all"), check=True, capture_output=True).stdout
        for six in ((), ("-6",))
    ]
    return sum(len(text.splitlines()) for text in shown)


@pytest.mark.parametrize(
    ("first", "interface"),
    [("10.%d.16.1", ""), ("fd5e:%x::1:1", ""), ("fe80::1:1", "eth0"), ("ff02::1:1", "eth0"), ("224.1.0.1", "")],
    ids=["its network", "its network of IPv6", "its link", "groups", "groups of IPv4"],
)  # fmt: skip
def test_who_knocks_everywhere_has_its_share_and_goes_on(world: World, first: str, interface: str) -> None:
    with free_block() as block:
        number = int(block.split(".")[1])
        world.network("tenant1", "wide", subnet=block, ipv6=True, subnet6=f"fd5e:{number:x}::/64")
        enemy, neighbour = (world.host(name, "tenant1", networks=on("wide")) for name in ("cenemy", "cnext"))
    world.serve(enemy, "0.0.0.0", 8080)
    assert world.reaches(neighbour, enemy.endpoint.address, 8080)
    knock(enemy, first % number if "%" in first else first, interface)
    assert known(enemy) <= 3 * neighbours.MOST
    assert world.reaches(neighbour, enemy.endpoint.address, 8080), "whom it knows it still answers"


def test_the_node_has_room_for_those_of_many(world: World) -> None:
    world.host("cone", "tenant1")
    for table in neighbours.TABLES:
        if table.exists():
            assert int((table / "gc_thresh3").read_text()) >= neighbours.ROOM
            assert int((table / "gc_thresh2").read_text()) >= neighbours.ROOM // 2


def test_a_table_that_is_not_to_be_had_keeps_nobody_from_running(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("gc_thresh2", "gc_thresh3"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(neighbours, "TABLES", (tmp_path, tmp_path / "none"))
    assert world.host("cone", "tenant1").endpoint.address
