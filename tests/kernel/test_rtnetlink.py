"""Links, addresses and routes by messages of our own making, in a network namespace that ends with the test; told by ``ip``."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.kernel import rtnetlink
from runtime.kernel.namespaces import inside_network
from runtime.kernel.rtnetlink import Netlink
from tests.marks import no_cgroup

pytestmark = [pytest.mark.root, no_cgroup]

MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"


@contextmanager
def another() -> Iterator[int]:
    """The pid of a process in a network namespace of its own."""
    child = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield child.pid
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def netlink() -> Iterator[tuple[Netlink, int]]:
    with another() as pid:
        with inside_network(Path(f"/proc/{pid}/ns/net")):
            made = Netlink()
        with made:
            yield made, pid


def ip(pid: int, *words: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["nsenter", "--target", str(pid), "--net", "ip", "-json", "-details", *words], check=True, capture_output=True
    )
    return list(json.loads(done.stdout or b"[]"))


def index(pid: int, name: str) -> int:
    return int(ip(pid, "link", "show", name)[0]["ifindex"])


def test_a_pair_between_two_namespaces(netlink: tuple[Netlink, int]) -> None:
    sender, pid = netlink
    sender.send(rtnetlink.new_link("bridge0", "bridge", mac=MAC))
    with another() as inside:
        with open(f"/proc/{inside}/ns/net", "rb") as namespace:
            peer = rtnetlink.veth_peer("eth0", OTHER, namespace.fileno())
            sender.send(rtnetlink.new_link("host0", "veth", master=index(pid, "bridge0"), data=peer))
        assert ip(pid, "link", "show", "host0")[0]["master"] == "bridge0"
        (found,) = ip(inside, "link", "show", "eth0")
        assert found["address"] == OTHER
        assert ip(pid, "link", "show", "bridge0")[0]["address"] == MAC


def test_addresses_and_routes(netlink: tuple[Netlink, int]) -> None:
    sender, pid = netlink
    sender.send(rtnetlink.new_link("link0", "bridge"))
    number = index(pid, "link0")
    sender.send(
        rtnetlink.new_address(number, "192.0.2.5", 24),
        rtnetlink.set_link(number, up=True),
        rtnetlink.new_address(number, "2001:db8::5", 64, 0x02),
        rtnetlink.default_route("192.0.2.1", number),
        rtnetlink.default_route("2001:db8::1", number),
    )
    (shown,) = ip(pid, "address", "show", "link0")
    places = {(one["local"], one["prefixlen"]) for one in shown["addr_info"] if one["scope"] == "global"}
    assert places == {("192.0.2.5", 24), ("2001:db8::5", 64)}
    for family, gateway in (("-4", "192.0.2.1"), ("-6", "2001:db8::1")):
        (route,) = ip(pid, family, "route", "show", "default")
        assert (route["gateway"], route["dev"], route["protocol"]) == (gateway, "link0", "static")


def test_what_the_kernel_refuses_is_raised_and_the_rest_is_done(netlink: tuple[Netlink, int]) -> None:
    sender, pid = netlink
    sender.send(rtnetlink.new_link("link0", "bridge"))
    number = index(pid, "link0")
    with pytest.raises(OSError, match=os.strerror(errno.EEXIST)) as refused:
        sender.send(rtnetlink.new_link("link0", "bridge"), rtnetlink.new_address(number, "192.0.2.5", 24))
    assert refused.value.errno == errno.EEXIST
    assert ip(pid, "address", "show", "link0")[0]["addr_info"][0]["local"] == "192.0.2.5"
    sender.send(rtnetlink.delete_link(number))  # its answers are its own, not those of the batch before
    with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
        sender.send(rtnetlink.delete_link(number))


def test_the_thread_is_where_it_was(netlink: tuple[Netlink, int]) -> None:
    sender, _ = netlink
    sender.send(rtnetlink.new_link("link0", "bridge"))
    assert "link0" not in {name for _, name in socket.if_nameindex()}
