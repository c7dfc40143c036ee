"""Bytes that went over every interface of this network namespace, in one answer (rtnetlink(7), RTM_GETSTATS; linux/if_link.h)."""

from __future__ import annotations

import struct

from runtime.kernel.rtnetlink import Message, Netlink

RTM_GETSTATS = 94
IFLA_STATS_LINK_64 = 1
STATS = struct.Struct("=BBHII")
"""Family, padding, padding, index, mask of the statistics that are wanted or here (struct if_stats_msg)."""
BYTES = struct.Struct("=QQ")
BYTES_AT = STATS.size + 4 + 2 * 8
"""After the attribute's header: rtnl_link_stats64, whose third and fourth figures are bytes in and out."""
DEADLINE_S = 5.0
"""Whoever asks has other figures to tell meanwhile."""


def traffic() -> dict[int, tuple[int, int]]:
    """Index of the interface -> bytes received, bytes sent.  Raises OSError."""
    question = Message(RTM_GETSTATS, 0, STATS.pack(0, 0, 0, 0, 1 << (IFLA_STATS_LINK_64 - 1)))
    with Netlink(deadline_s=DEADLINE_S) as netlink:
        return {_index(body): BYTES.unpack_from(body, BYTES_AT) for body in netlink.dump(question)}


def _index(body: bytes) -> int:
    return int(STATS.unpack_from(body)[3])
