"""Links, addresses and routes by netlink.  Each function opens a socket of its own (0.6 ms), so all are thread-safe."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from runtime.kernel.namespaces import inside_network

INTERFACE = "eth0"
IFA_F_NODAD = 0x02
"""An address is used at once; nobody else can have it (linux/if_addr.h)."""
LOOPBACK = 1
"""Index of lo in every network namespace."""


def exists(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def is_bridge(name: str) -> bool:
    return Path("/sys/class/net", name, "bridge").is_dir()


def ensure_bridge(name: str, address: str, prefix: int, mac: str, address6: str = "", prefix6: int = 0) -> None:
    """A bridge that is up and has these addresses, whatever was there of it; without ``address6`` it has no IPv6.

    Without a MAC of its own a bridge takes its members' lowest, and with each that comes or goes the others may lose their gateway.
    """
    with IPRoute() as netlink:
        _once(netlink.link, "add", ifname=name, kind="bridge", address=mac)
        index = socket.if_nametoindex(name)
        netlink.link("set", index=index, address=mac)
        if address6:
            _static_ipv6(name)
        else:
            # A bridge forwards every member's frames; IPv6 on it would give tenants a way to the node past our rules.
            _without_ipv6(name)
        Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1", encoding="ascii")
        _once(netlink.addr, "add", index=index, address=address, prefixlen=prefix)
        if address6:
            _once(
                netlink.addr,
                "add",
                index=index,
                family=socket.AF_INET6,
                address=address6,
                prefixlen=prefix6,
                flags=IFA_F_NODAD,
            )
        netlink.link("set", index=index, state="up")


def _once(verb: Callable[..., object], *words: str, **fields: object) -> None:
    """What is there already is no error."""
    try:
        verb(*words, **fields)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _static_ipv6(name: str) -> None:
    """Of the calling thread's network namespace: the interface has the addresses that it is given and its link-local one (by its MAC), at
    once, and believes nobody who advertises a router (ip-sysctl.rst)."""
    settings = {
        "disable_ipv6": 0,
        "accept_ra": 0,
        "accept_redirects": 0,
        "autoconf": 0,
        "accept_dad": 0,
        "addr_gen_mode": 0,
    }
    for setting, value in settings.items():
        Path(f"/proc/sys/net/ipv6/conf/{name}/{setting}").write_text(str(value), encoding="ascii")


def _without_ipv6(name: str) -> None:
    """A kernel that was started without IPv6 has no such switch, and nothing to switch off."""
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")


def add_veth(name: str, bridge: str, pid: int, mac: str, inside: str = INTERFACE) -> None:
    """A pair: ``name`` on the bridge, ``inside`` in the network namespace of ``pid``.  Exists already: made anew."""
    with IPRoute() as netlink:
        pair = {
            "ifname": name,
            "kind": "veth",
            "master": socket.if_nametoindex(bridge),
            "peer": {"ifname": inside, "net_ns_pid": pid, "address": mac},
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


@dataclass(frozen=True, slots=True)
class Inside:
    """What an interface of a container gets; what is empty it does not."""

    interface: str
    address: str
    prefix: int
    gateway: str = ""
    address6: str = ""
    prefix6: int = 0
    gateway6: str = ""


def configure_inside(netns: Path, interfaces: Sequence[Inside]) -> None:
    """Addresses, default routes and loopback in the namespace that is pinned at ``netns``."""
    with inside_network(netns):
        netlink = IPRoute()
        indexes = [socket.if_nametoindex(one.interface) for one in interfaces]
        for one in interfaces:
            if one.address6:
                _static_ipv6(one.interface)
    with netlink:
        netlink.link("set", index=LOOPBACK, state="up")
        for one, index in zip(interfaces, indexes, strict=True):
            netlink.addr("add", index=index, address=one.address, prefixlen=one.prefix)
            netlink.link("set", index=index, state="up")
            if one.address6:
                netlink.addr(
                    "add", index=index, family=socket.AF_INET6, address=one.address6, prefixlen=one.prefix6, flags=IFA_F_NODAD
                )  # fmt: skip
            if one.gateway:
                netlink.route("add", dst="default", gateway=one.gateway, oif=index)
            if one.gateway6:
                netlink.route("add", family=socket.AF_INET6, dst="default", gateway=one.gateway6, oif=index)


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
