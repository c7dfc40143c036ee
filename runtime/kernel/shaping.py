"""Bandwidth: traffic of one or more interfaces waits its turn on an intermediate one (ifb) with a token bucket (tc-tbf(8), tc-mirred(8)).

All in one direction share one bucket, so a limit is one of all of a container's networks together.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

ROOT = 0x10000
INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""Of an interface's clsact (linux/pkt_sched.h, TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS)."""
EVERYTHING = ("0x0/0x0+0",)
"""A u32 key that all packets match: every kernel has u32, not every one has matchall."""
ETH_P_ALL = 0x0003
LEAST_BURST = 32 * 2**10
"""Bytes; a bucket smaller than a segmented packet would let nothing pass."""
BURST_S, QUEUE_S = 0.01, 0.1
"""How much may pass at once, and how much waits before packets are dropped, in time at the full rate."""


def limit(interfaces: Sequence[str], shaper: str, bps: int, direction: int) -> None:
    """Bits per second of all that passes the interfaces in one direction, INGRESS (they receive) or EGRESS (they send)."""
    with IPRoute() as netlink:
        _ensure_shaper(netlink, shaper, bps)
        target = socket.if_nametoindex(shaper)
        for name in interfaces:
            index = socket.if_nametoindex(name)
            _once(netlink, "add", "clsact", index)
            action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target}
            netlink.tc(
                "add-filter", "u32", index, parent=direction, protocol=ETH_P_ALL, target=ROOT, prio=1, keys=EVERYTHING, action=action
            )  # fmt: skip


def _ensure_shaper(netlink: IPRoute, name: str, bps: int) -> None:
    try:
        netlink.link("add", ifname=name, kind="ifb")
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
    index = socket.if_nametoindex(name)
    netlink.link("set", index=index, state="up")
    rate = bps // 8
    burst, queue = max(LEAST_BURST, int(rate * BURST_S)), max(4 * LEAST_BURST, int(rate * QUEUE_S))
    netlink.tc("replace", "tbf", index, ROOT, rate=rate, burst=burst, limit=burst + queue)


def _once(netlink: IPRoute, verb: str, kind: str, index: int) -> None:
    try:
        netlink.tc(verb, kind, index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def free(interfaces: Sequence[str]) -> None:
    """Nothing that passes these interfaces waits any more; none that did is no error."""
    with IPRoute() as netlink:
        for name in interfaces:
            try:
                netlink.tc("del", "clsact", socket.if_nametoindex(name))
            except NetlinkError as error:
                if error.code not in {errno.ENOENT, errno.EINVAL}:
                    raise
