"""What the sockets of a network namespace hold that no cgroup counts, of version 1 or 2.

A netlink message, an answer to a ping or a packet that nobody reads is memory of the node, and so is the ring of packets that a capture asks for.  What
waits in TCP's and UDP's sockets is counted (unix sockets' as well), but not what comes back to a sender: errors, and its own data with the time at
which they were sent (SO_TIMESTAMPING).  One socket's queues hold twice ``net.core.rmem_max`` at most; nothing bounds all of a container's.
(proc_pid_net(5), sock_diag(7), packet(7); sock_queue_err_skb() in net/core/skbuff.c, and net/netlink, net/packet, net/ipv4/ping.c of the kernel.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.kernel.namespaces import inside_network
from runtime.kernel.rtnetlink import Message, Netlink, attributes

FOLDER = Path("/proc/thread-self/net")
DECIMAL = {"NETLINK": ("netlink", (4, 5)), "PACKET": ("packet", (6,))}
"""The table with a row for each socket of a protocol, and its columns of bytes that wait to be received, and to be sent where that is told."""
UNCOUNTED = {"PING": "icmp", "PINGv6": "icmp6", "RAW": "raw", "RAWv6": "raw6"}
COUNTED = {"UDP": "udp", "UDPv6": "udp6", "UDP-Lite": "udplite", "UDPLITEv6": "udplite6"}
"""Tables that have both in the fifth column, in hexadecimal: ``sent:received``."""
BOTH = 4
TCP = {"TCP": 2, "TCPv6": 10}
"""Families (linux/socket.h): TCP's table does not tell, sock_diag does."""
AF_PACKET, IPPROTO_TCP = 17, 6
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
PACKET_QUESTION = struct.Struct("=BxxxII8x")
"""Family, inode, what is to be shown (struct packet_diag_req)."""
PACKET_ANSWER, PDIAG_SHOW_RING_CFG, PACKET_DIAG_RX_RING, PACKET_DIAG_TX_RING = 16, 0x4, 2, 3
"""The length of struct packet_diag_msg, which attributes follow."""
RING = struct.Struct("=II")
"""The size of a block and their number, of struct packet_diag_ring."""
TCP_QUESTION = struct.Struct("=BBBxI48x")
"""Family, protocol, extensions, states (struct inet_diag_req_v2)."""
TCP_ANSWER, INET_DIAG_SKMEMINFO = 72, 7
CONNECTED = 0xFFF & ~(1 << 3 | 1 << 6 | 1 << 10)
"""States (net/tcp_states.h) but those of sockets that nobody has yet or any more, or that have no data."""
DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Unread:
    """Bytes."""

    uncounted: int
    mixed: int
    """Of TCP and UDP: what the cgroup counts, and what it does not."""


def unread(namespace: Path) -> Unread:
    """By the file of a network namespace: a first process whose main thread has ended has none under its number.  Raises OSError.

    Each table is made from the sockets of all namespaces, so only those are read in which this one has a socket.
    """
    with inside_network(namespace):
        here = [row[0] for row in _rows("protocols") if int(row[2])]
        uncounted = sum(_waiting(UNCOUNTED[name]) for name in here if name in UNCOUNTED)
        for name in here:
            if name in DECIMAL:
                table, columns = DECIMAL[name]
                uncounted += sum(int(row[column]) for row in _rows(table) for column in columns)
        mixed = sum(_waiting(COUNTED[name]) for name in here if name in COUNTED)
        mixed += sum(_of_tcp(TCP[name]) for name in here if name in TCP)
        return Unread(uncounted + (_rings() if "PACKET" in here else 0), mixed)


def _rows(table: str) -> list[list[str]]:
    return [row.split() for row in (FOLDER / table).read_text(encoding="ascii").splitlines()[1:]]


def _waiting(table: str) -> int:
    return sum(int(part, 16) for row in _rows(table) for part in row[BOTH].split(":"))


def _rings() -> int:
    found = 0
    for told in _asked(PACKET_QUESTION.pack(AF_PACKET, 0, PDIAG_SHOW_RING_CFG), PACKET_ANSWER):
        for ring in (PACKET_DIAG_RX_RING, PACKET_DIAG_TX_RING):
            size, number = RING.unpack_from(told.get(ring, bytes(RING.size)))
            found += size * number
    return found


def _of_tcp(family: int) -> int:
    question = TCP_QUESTION.pack(family, IPPROTO_TCP, 1 << (INET_DIAG_SKMEMINFO - 1), CONNECTED)
    received = (told.get(INET_DIAG_SKMEMINFO, bytes(4)) for told in _asked(question, TCP_ANSWER))
    return sum(int(struct.unpack_from("=I", memory)[0]) for memory in received)


def _asked(question: bytes, answer: int) -> Iterator[dict[int, bytes]]:
    """The attributes of each socket.  A kernel that is made without such questions (CONFIG_PACKET_DIAG, CONFIG_INET_DIAG) tells of none."""
    try:
        with Netlink(NETLINK_SOCK_DIAG, DEADLINE_S) as netlink:
            for body in netlink.dump(Message(SOCK_DIAG_BY_FAMILY, 0, question)):
                yield attributes(body[answer:])
    except FileNotFoundError:
        return
