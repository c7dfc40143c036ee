"""Changes of links, addresses and routes, as rtnetlink(7) messages: built by hand, since each launch needs a dozen of them.

:class:`Netlink` carries those of other protocols, too.

A library that knows all of netlink took half of the processor time that a launch cost this process, and a fifth of a second of each
start of a program.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 17, 20, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
NLM_F_DUMP = 0x300
NEW = NLM_F_CREATE | NLM_F_EXCL
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 10, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
RTA_OIF, RTA_GATEWAY = 4, 5
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST = 254, 4, 1
IFF_UP = 1

HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port."""
LINK = struct.Struct("=BxHiII")
"""Family, type, index, flags, mask of the flags that are meant."""
ADDRESS = struct.Struct("=BBBBi")
"""Family, prefix, flags, scope, index."""
ROUTE = struct.Struct("=BBBBBBBBI")
"""Family, prefixes of destination and source, TOS, table, protocol, scope, type, flags."""
ATTRIBUTE = struct.Struct("=HH")
"""Length, type; what follows is padded to four bytes."""
NESTED, TYPE = 0x8000, 0x3FFF
"""Of an attribute's type: that it holds attributes, and the type itself (linux/netlink.h)."""
ANSWER = 1 << 16
DEADLINE_S = 30.0
"""A veth's creation waits for the lock of all links, which others hold while they remove theirs."""


@dataclass(frozen=True, slots=True)
class Message:
    """One change or question, as the kernel takes it."""

    kind: int
    flags: int
    body: bytes


def attribute(kind: int, *parts: bytes) -> bytes:
    """Several parts are nested attributes."""
    content = b"".join(parts)
    length = ATTRIBUTE.size + len(content)
    return ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _name(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _mac(address: str) -> bytes:
    return attribute(IFLA_ADDRESS, bytes.fromhex(address.replace(":", ""))) if address else b""


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def new_link(name: str, kind: str, *, mac: str = "", master: int = 0, data: bytes = b"") -> Message:
    """``data`` is what its kind wants, in attributes."""
    info = attribute(IFLA_LINKINFO, _name(IFLA_INFO_KIND, kind), attribute(IFLA_INFO_DATA, data) if data else b"")
    body = LINK.pack(0, 0, 0, 0, 0) + _name(IFLA_IFNAME, name) + _mac(mac) + info
    return Message(RTM_NEWLINK, NEW, body + (_number(IFLA_MASTER, master) if master else b""))


def veth_peer(name: str, mac: str, namespace: int) -> bytes:
    """The other end, as :func:`new_link` takes it: in the network namespace that a descriptor of the sender's is of."""
    end = LINK.pack(0, 0, 0, 0, 0) + _name(IFLA_IFNAME, name) + _mac(mac) + _number(IFLA_NET_NS_FD, namespace)
    return attribute(VETH_INFO_PEER, end)


def set_link(index: int, *, up: bool = False, mac: str = "", master: int = 0) -> Message:
    flags = IFF_UP if up else 0
    body = LINK.pack(0, 0, index, flags, flags) + _mac(mac)
    return Message(RTM_NEWLINK, 0, body + (_number(IFLA_MASTER, master) if master else b""))


def link_down(index: int) -> Message:
    return Message(RTM_NEWLINK, 0, LINK.pack(0, 0, index, 0, IFF_UP))


def delete_link(index: int) -> Message:
    return Message(RTM_DELLINK, 0, LINK.pack(0, 0, index, 0, 0))


def new_address(index: int, address: str, prefix: int, flags: int = 0) -> Message:
    family, packed = _packed(address)
    body = ADDRESS.pack(family, prefix, 0, 0, index) + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return Message(RTM_NEWADDR, NEW, body + _number(IFA_FLAGS, flags))


def default_route(gateway: str, index: int) -> Message:
    family, packed = _packed(gateway)
    body = ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0)
    return Message(RTM_NEWROUTE, NEW, body + attribute(RTA_GATEWAY, packed) + _number(RTA_OIF, index))


class Netlink:
    """A socket in the calling thread's network namespace, which it stays in wherever the thread goes."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE, deadline_s: float = DEADLINE_S) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(deadline_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """All of them, in this order.  Raises OSError with the first one's number that the kernel refused; it has tried the others, too."""
        self._socket.send(b"".join(_encoded(number, message) for number, message in enumerate(messages)))
        refused: list[int] = []
        answered = 0
        while answered < len(messages):
            numbers = _answers(self._socket.recv(ANSWER))
            answered += len(numbers)
            refused += [number for number in numbers if number]
        if refused:
            raise OSError(refused[0], os.strerror(refused[0]))

    def dump(self, question: Message) -> Iterator[bytes]:
        """The bodies of the messages that answer it.  Read to the end before anything else is sent.  Raises OSError."""
        self._socket.send(_encoded(0, question, NLM_F_REQUEST | NLM_F_DUMP))
        while True:
            for kind, body in _messages(self._socket.recv(ANSWER)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    number = _refusal(body)
                    raise OSError(number, os.strerror(number))
                yield body


def _encoded(sequence: int, message: Message, flags: int = NLM_F_REQUEST | NLM_F_ACK) -> bytes:
    return HEADER.pack(HEADER.size + len(message.body), message.kind, flags | message.flags, sequence, 0) + message.body


def _messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each."""
    at = 0
    while at < len(content):
        length, kind, *_ = HEADER.unpack_from(content, at)
        yield kind, content[at + HEADER.size : at + length]
        at += (length + 3) & ~3


def _refusal(body: bytes) -> int:
    """0: it was done."""
    return -int(struct.unpack_from("=i", body)[0])


def _answers(content: bytes) -> Sequence[int]:
    """Error numbers, 0 where it was done."""
    return [_refusal(body) for kind, body in _messages(content) if kind == NLMSG_ERROR]


def attributes(content: bytes) -> dict[int, bytes]:
    """The content of each by its type, without the flags of the type."""
    found, at = {}, 0
    while at < len(content):
        length, kind = ATTRIBUTE.unpack_from(content, at)
        found[kind & TYPE] = content[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found
