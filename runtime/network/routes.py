"""What the node routes, and whether it forwards at all."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import HostUnfit

ROUTES = Path("/proc/net/route")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
SETTINGS6 = Path("/proc/sys/net/ipv6/conf")


def routed() -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    """Device and destination of each route of IPv4 but the default one (little-endian hex)."""
    for row in (line.split() for line in ROUTES.read_text(encoding="ascii").splitlines()[1:]):
        address, mask = (int.from_bytes(bytes.fromhex(row[at]), "little") for at in (1, 7))
        if mask:
            yield row[0], ipaddress.IPv4Network((address, mask.bit_count()), strict=False)


def forward_packets() -> None:
    """Raises HostUnfit."""
    if FORWARDING.read_text(encoding="ascii").strip() != "1":
        try:
            FORWARDING.write_text("1", encoding="ascii")
        except OSError:
            raise HostUnfit("The node does not forward IPv4 packets.", hint="Set net.ipv4.ip_forward to 1.") from None


def forward_packets6() -> None:
    """A node that forwards takes no router advertisements unless it is told to (ip-sysctl.rst, accept_ra): one that lived by them
    is told first, and keeps its way out.  Raises HostUnfit."""
    everywhere = SETTINGS6 / "all/forwarding"
    try:
        if everywhere.read_text(encoding="ascii").strip() == "1":
            return
        for setting in SETTINGS6.glob("*/accept_ra"):
            if setting.read_text(encoding="ascii").strip() == "1":
                setting.write_text("2", encoding="ascii")
        everywhere.write_text("1", encoding="ascii")
    except OSError:
        raise HostUnfit(
            "The node does not forward IPv6 packets.", hint="Boot it with IPv6, or use a network without.", field="ipv6"
        ) from None
