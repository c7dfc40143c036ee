"""Links, addresses and routes by netlink.  Each function opens a socket of its own (0.6 ms), so all are thread-safe."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from runtime.kernel.namespaces import inside_network

INTERFACE = "eth0"
LOOPBACK = 1
"""Index of lo in every network namespace."""


def exists(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def ensure_bridge(name: str, address: str, prefix: int) -> bool:
    """A bridge that is up and has the address; True when it had to be made."""
    if exists(name):
        return False
    with IPRoute() as netlink:
        try:
            netlink.link("add", ifname=name, kind="bridge")
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
        # A bridge forwards every member's frames; IPv6 on it would give tenants a way to the node past our rules.
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")
        Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1", encoding="ascii")
        index = socket.if_nametoindex(name)
        try:
            netlink.addr("add", index=index, address=address, prefixlen=prefix)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
        netlink.link("set", index=index, state="up")
    return True


def add_veth(name: str, bridge: str, pid: int, mac: str) -> None:
    """A pair: ``name`` on the bridge, ``eth0`` in the network namespace of ``pid``.  Exists already: made anew."""
    with IPRoute() as netlink:
        pair = {
            "ifname": name,
            "kind": "veth",
            "master": socket.if_nametoindex(bridge),
            "peer": {"ifname": INTERFACE, "net_ns_pid": pid, "address": mac},
        }
        try:
            netlink.link("add", **pair)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            remove(name)
            netlink.link("add", **pair)
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")
        netlink.link("set", index=socket.if_nametoindex(name), state="up")
    # a container reaches its own published port through the node's address
    Path(f"/sys/class/net/{name}/brport/hairpin_mode").write_text("1", encoding="ascii")


def configure_inside(netns: Path, address: str, prefix: int, gateway: str) -> None:
    """Address, default route and loopback in the namespace that is pinned at ``netns``."""
    with inside_network(netns):
        netlink = IPRoute()
        index = socket.if_nametoindex(INTERFACE)
    with netlink:
        netlink.addr("add", index=index, address=address, prefixlen=prefix)
        netlink.link("set", index=index, state="up")
        netlink.link("set", index=LOOPBACK, state="up")
        netlink.route("add", dst="default", gateway=gateway)


def remove(name: str) -> bool:
    """False: there was none."""
    if not exists(name):
        return False
    with IPRoute() as netlink:
        try:
            netlink.link("del", index=socket.if_nametoindex(name))
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
        except OSError:
            return False  # it went by itself
    return True


def names(prefix: str) -> tuple[str, ...]:
    return tuple(sorted(name for name in os.listdir("/sys/class/net") if name.startswith(prefix)))
