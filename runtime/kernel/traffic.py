"""Bytes that went over every interface of this network namespace, in one answer (rtnetlink(7), RTM_GETSTATS; linux/if_link.h)."""

from __future__ import annotations

import os
import socket
import struct

RTM_NEWSTATS, RTM_GETSTATS = 92, 94
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFLA_STATS_LINK_64 = 1
HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port."""
REQUEST = struct.Struct("=BBHII")
"""Family, padding, padding, index, mask of the statistics that are wanted."""
INDEX_AT = 16 + 4
BYTES_AT = 16 + 12 + 4 + 2 * 8
"""After both headers and the attribute's: rtnl_link_stats64, whose third and fourth figures are bytes in and out."""
INDEX, BYTES = struct.Struct("=I"), struct.Struct("=QQ")
ANSWER = 1 << 16
DEADLINE_S = 5.0


def traffic() -> dict[int, tuple[int, int]]:
    """Index of the interface -> bytes received, bytes sent.  Raises OSError."""
    found: dict[int, tuple[int, int]] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(DEADLINE_S)
        body = REQUEST.pack(0, 0, 0, 0, 1 << (IFLA_STATS_LINK_64 - 1))
        netlink.send(HEADER.pack(HEADER.size + len(body), RTM_GETSTATS, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        while _take(netlink.recv(ANSWER), found):
            pass
    return found


def _take(answer: bytes, found: dict[int, tuple[int, int]]) -> bool:
    """False: that was the last part."""
    at = 0
    while at < len(answer):
        length, kind, _flags, _sequence, _port = HEADER.unpack_from(answer, at)
        if kind == NLMSG_DONE:
            return False
        if kind == NLMSG_ERROR:
            number = -struct.unpack_from("=i", answer, at + HEADER.size)[0]
            raise OSError(number, os.strerror(number))
        if kind == RTM_NEWSTATS:
            found[INDEX.unpack_from(answer, at + INDEX_AT)[0]] = BYTES.unpack_from(answer, at + BYTES_AT)
        at += (length + 3) & ~3
    return True
