"""Links, addresses and routes by netlink.  Each function opens a socket of its own (0.6 ms), so all are thread-safe."""

from __future__ import annotations

import contextlib
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


def ensure_bridge(name: str, address: str, prefix: int, mac: str) -> None:
    """A bridge that is up and has these addresses, whatever was there of it.

    Without a MAC of its own a bridge takes its members' lowest, and with each that comes or goes the others may lose their gateway.
    """
    with IPRoute() as netlink:
        try:
            netlink.link("add", ifname=name, kind="bridge", address=mac)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
        index = socket.if_nametoindex(name)
        netlink.link("set", index=index, address=mac)
        # A bridge forwards every member's frames; IPv6 on it would give tenants a way to the node past our rules.
        _without_ipv6(name)
        Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1", encoding="ascii")
        try:
            netlink.addr("add", index=index, address=address, prefixlen=prefix)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
        netlink.link("set", index=index, state="up")


def _without_ipv6(name: str) -> None:
    """A kernel that was started without IPv6 has no such switch, and nothing to switch off."""
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")


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
        _without_ipv6(name)
        netlink.link("set", index=socket.if_nametoindex(name), state="up")
    _allow_hairpin(name)


def _allow_hairpin(name: str) -> None:
    """A container reaches its own published port through the node's address."""
    Path(f"/sys/class/net/{name}/brport/hairpin_mode").write_text("1", encoding="ascii")


def join_bridge(name: str, bridge: str) -> None:
    """Put an interface that has lost its bridge on one."""
    with IPRoute() as netlink:
        netlink.link("set", index=socket.if_nametoindex(name), master=socket.if_nametoindex(bridge))
    _allow_hairpin(name)


def on_bridge(name: str) -> bool:
    """Whether the interface is a member of any bridge."""
    return Path(f"/sys/class/net/{name}/brport").exists()


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
