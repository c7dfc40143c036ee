"""How far into the node and its site a registry may lead a pull, which runs as root on the node's own network.

Depth of an address: 0 public; 1 of the site (private, RFC 1918 and the like); 2 of the node (loopback, link-local, its own
addresses, its containers' networks).  Two rules, for every address at which a connection is made:

- asked by a tenant (``confined``), a registry lies at depth 0 or 1;
- where a registry sends us on (a redirect, a sign-in), lies no deeper than the registry itself.
"""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from collections.abc import Mapping
from typing import Any

import httpx

from runtime.errors import ImageDenied, ImageUnavailable

PUBLIC, SITE, NODE = 0, 1, 2
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def depth(text: str, containers: str) -> int:
    """``containers`` is the block of the containers' subnets."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _translated(address) or address
    inside = address in ipaddress.ip_network(containers)
    if inside or address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
        return NODE
    if _own(address):
        return NODE
    return PUBLIC if address.is_global else SITE


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Where a translator (RFC 6052) leads, if the network has one."""
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None


def _own(address: Address) -> bool:
    """Whether an interface of this node has it: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


class Reach:
    def __init__(self, registry: str, host: str, *, confined: bool, containers: str) -> None:
        """``host`` is the registry's endpoint, with its port if it has one."""
        self._registry = registry
        self._host = httpx.URL(f"https://{host}").host
        self._most = SITE if confined else NODE
        self._containers = containers
        self._found: int | None = None
        """The registry's own depth, once it is known."""

    def vet(self, url: httpx.URL) -> None:
        """Before anything is sent.  Raises ImageDenied, ImageUnavailable (no such host)."""
        if _proxied(url):
            self._vet_name(url)
            return
        try:
            found = socket.getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise ImageUnavailable(
                f"The registry {self._registry} cannot be found: its name has no address.",
                hint="Check its address, and that it runs, then try again.",
                registry=self._registry,
            ) from None
        for address in {str(row[4][0]) for row in found}:
            self._meet(url, address)

    def _vet_name(self, url: httpx.URL) -> None:
        """A proxy resolves names, and lets through what it lets through; a bare address needs no name."""
        try:
            self._meet(url, url.host)
        except ValueError:
            if url.host == "localhost" or url.host.endswith(".localhost"):
                self._meet(url, "127.0.0.1")

    def met(self, url: httpx.URL, event: str, info: Mapping[str, Any]) -> None:
        """A trace of httpcore's: looks at the address once more when the connection is there, before anything is sent on it."""
        if event == "connection.connect_tcp.complete" and not _proxied(url):
            peer = info["return_value"].get_extra_info("server_addr")
            self._meet(url, str(peer[0]))

    def _meet(self, url: httpx.URL, address: str) -> None:
        found = depth(address, self._containers)
        if url.host == self._host:
            if found > self._most:
                raise ImageDenied(
                    f"The registry {self._registry} lies on the node itself, where tenants reach nothing.",
                    hint="Ask an admin to add it.",
                    field="image",
                    registry=self._registry,
                )
            self._found = found if self._found is None else min(found, self._found)
        elif found > (self._found or PUBLIC):
            raise ImageDenied(
                f"The registry {self._registry} leads to an address inside the node or its site.",
                hint="Do not use this registry.",
                registry=self._registry,
            )


def _proxied(url: httpx.URL) -> bool:
    """Whether the node's environment names a proxy for it."""
    proxies = urllib.request.getproxies()
    return (url.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(url.host)
