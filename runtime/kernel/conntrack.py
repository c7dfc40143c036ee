"""Connection tracking: what the kernel remembers of flows, each with the translation that its first packet got (ctnetlink)."""

from __future__ import annotations

import errno
import logging
import socket

from pyroute2 import NFCTSocket
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

logger = logging.getLogger(__name__)


def forget_udp(port: int) -> int:
    """Forget the flows of datagrams to this port of the node itself, so that the next of each finds its way anew; returns how many."""
    wanted = NFCTAttrTuple(proto=socket.IPPROTO_UDP, dport=port)
    with NFCTSocket() as netlink:
        try:
            rows = tuple(netlink.dump(tuple_orig=wanted))
        except NetlinkError as error:
            logger.warning("this kernel does not tell what flows it tracks: %s", error)
            return 0
        flows = [NFCTAttrTuple.from_netlink(socket.AF_INET, row.get_attr("CTA_TUPLE_ORIG")) for row in rows]
        return sum(_forget(netlink, flow) for flow in flows if flow.dport == port and _of_this_node(flow.daddr))


def _forget(netlink: NFCTSocket, flow: NFCTAttrTuple) -> bool:
    """False: it has ended by itself."""
    try:
        netlink.entry("del", tuple_orig=flow)
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
        return False
    return True


def _of_this_node(address: str) -> bool:
    """Only an address of the node's own can be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
