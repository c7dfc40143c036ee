"""Links, addresses and routes by netlink.  Each function opens a socket of its own, so all are thread-safe."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.kernel import rtnetlink
from runtime.kernel.namespaces import inside_network
from runtime.kernel.rtnetlink import Message, Netlink

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
    with Netlink() as netlink:
        _once(netlink, rtnetlink.new_link(name, "bridge", mac=mac))
        index = socket.if_nametoindex(name)
        netlink.send(rtnetlink.set_link(index, mac=mac))
        if address6:
            _static_ipv6(name)
        else:
            # A bridge forwards every member's frames; IPv6 on it would give tenants a way to the node past our rules.
            _without_ipv6(name)
        Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1", encoding="ascii")
        _once(netlink, rtnetlink.new_address(index, address, prefix))
        if address6:
            _once(netlink, rtnetlink.new_address(index, address6, prefix6, IFA_F_NODAD))
        netlink.send(rtnetlink.set_link(index, up=True))


def _once(netlink: Netlink, message: Message) -> None:
    """What is there already is no error."""
    try:
        netlink.send(message)
    except OSError as error:
        if error.errno != errno.EEXIST:
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


def add_veth(name: str, bridge: str, netns: Path, mac: str, inside: str = INTERFACE) -> None:
    """A pair: ``name`` on the bridge, ``inside`` in the network namespace that is pinned at ``netns``.  Exists already: made anew."""
    with open(netns, "rb") as namespace, Netlink() as netlink:
        peer = rtnetlink.veth_peer(inside, mac, namespace.fileno())
        pair = rtnetlink.new_link(name, "veth", master=socket.if_nametoindex(bridge), data=peer)
        try:
            netlink.send(pair)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            remove(name)
            netlink.send(pair)
        _without_ipv6(name)
        netlink.send(rtnetlink.set_link(socket.if_nametoindex(name), up=True))
    _allow_hairpin(name)


def _allow_hairpin(name: str) -> None:
    """A container reaches its own published port through the node's address."""
    Path(f"/sys/class/net/{name}/brport/hairpin_mode").write_text("1", encoding="ascii")


def join_bridge(name: str, bridge: str) -> None:
    """Put an interface that has lost its bridge on one."""
    with Netlink() as netlink:
        netlink.send(rtnetlink.set_link(socket.if_nametoindex(name), master=socket.if_nametoindex(bridge)))
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
        netlink = Netlink()
        indexes = [socket.if_nametoindex(one.interface) for one in interfaces]
        for one in interfaces:
            if one.address6:
                _static_ipv6(one.interface)
    wanted = [message for one, index in zip(interfaces, indexes, strict=True) for message in _settings(one, index)]
    with netlink:
        netlink.send(rtnetlink.set_link(LOOPBACK, up=True), *wanted)


def _settings(one: Inside, index: int) -> Iterator[Message]:
    yield rtnetlink.new_address(index, one.address, one.prefix)
    yield rtnetlink.set_link(index, up=True)
    if one.address6:
        yield rtnetlink.new_address(index, one.address6, one.prefix6, IFA_F_NODAD)
    for gateway in filter(None, (one.gateway, one.gateway6)):
        yield rtnetlink.default_route(gateway, index)


def lead_out(netns: Path, one: Inside) -> None:
    """The default routes of a namespace through an interface that it has; those that are there stay."""
    with inside_network(netns):
        netlink, index = Netlink(), socket.if_nametoindex(one.interface)
    with netlink:
        for gateway in filter(None, (one.gateway, one.gateway6)):
            _once(netlink, rtnetlink.default_route(gateway, index))


def take_down(name: str) -> bool:
    """Nothing passes it from here on, in either direction, so its counters are final.  False: there is no such interface."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return False
    with Netlink() as netlink:
        netlink.send(rtnetlink.link_down(index))
    return True


def remove(name: str) -> bool:
    """False: there was none."""
    if not exists(name):
        return False
    with Netlink() as netlink:
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            return False  # it went by itself
        try:
            netlink.send(rtnetlink.delete_link(index))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
    return True


def names(prefix: str) -> tuple[str, ...]:
    return tuple(sorted(name for name in os.listdir("/sys/class/net") if name.startswith(prefix)))
