"""Connection tracking: what the kernel remembers of flows, each with the translation that its first packet got (ctnetlink).

As messages of our own, see linux/netfilter/nfnetlink_conntrack.h: the library that knows all of netlink took eleven mebibytes and half a
second in every process that ever ended a container with a port for datagrams.
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace

from runtime.kernel.rtnetlink import NESTED, Message, Netlink, attribute, attributes

NETLINK_NETFILTER = 12
IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = 0x0101, 0x0102
"""With the subsystem, NFNL_SUBSYS_CTNETLINK, in the upper byte."""
CTA_TUPLE_ORIG, CTA_FILTER = 1, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3
CTA_FILTER_ORIG_FLAGS = 1
BY_SOURCE, BY_PROTOCOL_AND_PORT = 1 << 0, 1 << 3 | 1 << 5
"""CTA_FILTER_F_CTA_IP_SRC, …_PROTO_NUM and …_PROTO_DST_PORT (nf_internals.h): the kernel compares, since there may be hundreds of
thousands of flows."""
SOURCE = {socket.AF_INET: 1, socket.AF_INET6: 3}
DESTINATION = {socket.AF_INET: 2, socket.AF_INET6: 4}
"""CTA_IP_V4_SRC, …_V4_DST and those of IPv6."""
HEADER = struct.Struct(">BBH")
"""Family, version, resource (struct nfgenmsg)."""


def forget_udp(port: int) -> int:
    """Forget the flows of datagrams to this port of the node itself, so that the next of each finds its way anew; returns how many."""
    of_this_node = functools.cache(_of_this_node)
    with Netlink(NETLINK_NETFILTER) as netlink:
        try:
            flows = [(family, flow) for family in DESTINATION for flow in _flows(netlink, family, port)]
        except OSError as error:
            _untold(error)
            return 0
        return sum(
            of_this_node(family, _destination(family, flow)) and _forget(netlink, family, flow)
            for family, flow in flows
        )


def begun_by(address: str) -> int | None:
    """How many flows are known that this address began; None: the kernel does not tell.

    Asked for an IPv6 address the kernel tells of all others (seen with 6.18; ctnetlink_filter_match_tuple has it the wrong way around), so
    there all flows are looked at here.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    wanted = attribute(CTA_TUPLE_IP | NESTED, attribute(SOURCE[family], packed))
    question = _question(family, wanted, BY_SOURCE) if family == socket.AF_INET else _all_of(family)
    with Netlink(NETLINK_NETFILTER) as netlink:
        try:
            return sum(_end(body, SOURCE[family]) == packed for body in netlink.dump(question))
        except OSError as error:
            _untold(error)
            return None


def _flows(netlink: Netlink, family: socket.AddressFamily, port: int) -> Iterator[bytes]:
    """Of datagrams to that port of any address: the attributes of how each began."""
    wanted = attribute(
        CTA_TUPLE_PROTO | NESTED,
        attribute(CTA_PROTO_NUM, bytes([socket.IPPROTO_UDP])),
        attribute(CTA_PROTO_DST_PORT, struct.pack(">H", port)),
    )
    for body in netlink.dump(_question(family, wanted, BY_PROTOCOL_AND_PORT)):
        yield _tuple(body)


def _tuple(body: bytes) -> bytes:
    return attributes(body[HEADER.size :])[CTA_TUPLE_ORIG]


def _end(body: bytes, end: int) -> bytes:
    return attributes(attributes(_tuple(body))[CTA_TUPLE_IP])[end]


def _question(family: socket.AddressFamily, wanted: bytes, compared: int) -> Message:
    """For the flows whose first packet was so."""
    flags = attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", compared))
    body = attribute(CTA_TUPLE_ORIG | NESTED, wanted) + attribute(CTA_FILTER | NESTED, flags)
    return replace(_all_of(family), body=HEADER.pack(family, 0, 0) + body)


def _all_of(family: socket.AddressFamily) -> Message:
    return Message(IPCTNL_MSG_CT_GET, 0, HEADER.pack(family, 0, 0))


def _destination(family: socket.AddressFamily, flow: bytes) -> bytes:
    return attributes(attributes(flow)[CTA_TUPLE_IP])[DESTINATION[family]]


def _forget(netlink: Netlink, family: socket.AddressFamily, flow: bytes) -> bool:
    """False: it has ended by itself."""
    whole = HEADER.pack(family, 0, 0) + attribute(CTA_TUPLE_ORIG | NESTED, flow)
    try:
        netlink.send(Message(IPCTNL_MSG_CT_DELETE, 0, whole))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def _of_this_node(family: socket.AddressFamily, address: bytes) -> bool:
    """Only an address of the node's own can be bound."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((socket.inet_ntop(family, address), 0))
        except OSError:
            return False
    return True


def _untold(error: OSError) -> None:
    import logging  # which takes long to load

    logging.getLogger(__name__).warning("this kernel does not tell what flows it tracks: %s", error)
