"""The rule set of an instance: what tenants' networks may reach, and how published ports are reached.

Two tables of our own, ``inet <instance>`` and ``bridge <instance>``; nobody else's rules are touched.  Containers
are elements of sets and maps, so a launch adds elements and never a rule.

forward     a tenant's bridge to another bridge of this instance, and to link-local addresses, where clouds tell a node its
            credentials: dropped; established and published: accepted.
input       from a bridge to the node itself: ping and replies, nothing else.
martians    from a bridge to an address of the node's loopback: dropped before anything can redirect it.
prerouting, output
            published ports by two maps: of one address, and of any address of the node.
postrouting masquerade for what leaves a tenant's subnet, for localhost's way in, and for hairpins.
bridge      a container's frames must carry the MAC and the IPv4 address that it was given; no IPv6 yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.api import ANY_ADDRESS, Port
from runtime.home import Home
from runtime.kernel import nft


def present(home: Home) -> bool:
    wanted = {("inet", home.table), ("bridge", home.table)}
    return wanted <= {
        (row["table"]["family"], row["table"]["name"]) for row in nft.query("list tables") if "table" in row
    }


def install(home: Home, elements: Sequence[str] = ()) -> None:
    """The whole rule set with these elements, in one transaction, in place of what is there of it."""
    nft.run("\n".join((_removal(home), _rules(home.table), *elements)))


def _rules(table: str) -> str:
    return f"""
table inet {table} {{
  set bridges {{ type ifname; }}
  set same {{ type ifname . ifname; }}
  set subnets {{ type ipv4_addr; flags interval; }}
  map published_any {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map published_one {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  chain publish {{
    dnat ip to ip daddr . meta l4proto . th dport map @published_one
    dnat ip to meta l4proto . th dport map @published_any
  }}
  chain martians {{
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local meta l4proto {{ tcp, udp }} jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local meta l4proto {{ tcp, udp }} jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 127.0.0.0/8 oifname @bridges masquerade
    ct status dnat ip saddr @subnets oifname @bridges masquerade
    ip saddr @subnets oifname != @bridges masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname @bridges jump from_tenant
    oifname @bridges ct status dnat accept
    oifname @bridges drop
  }}
  chain from_tenant {{
    ct status dnat accept
    ip daddr 169.254.0.0/16 drop
    iifname . oifname @same accept
    oifname @bridges drop
    meta nfproto ipv6 drop
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname @bridges jump to_node
  }}
  chain to_node {{
    ct state established,related accept
    icmp type echo-request accept
    drop
  }}
}}
table bridge {table} {{
  set members {{ type ifname . ether_addr . ipv4_addr; }}
  set ports {{ type ifname; }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname @ports jump own
  }}
  chain own {{
    ether type ip iifname . ether saddr . ip saddr @members accept
    ether type arp iifname . arp saddr ether . arp saddr ip @members accept
    drop
  }}
}}
"""


def add_bridge(home: Home, bridge: str, subnet: str) -> None:
    nft.run(bridge_elements(home, bridge, subnet))


def _publications(home: Home, ports: tuple[Port, ...], address: str, verb: str) -> list[str]:
    lines = []
    for port in ports:
        target = f" : {address} . {port.container_port}" if verb == "add" else ""
        if port.host_address == ANY_ADDRESS:
            lines.append(
                f"{verb} element inet {home.table} published_any {{ {port.protocol} . {port.host_port}{target} }}"
            )
        else:
            key = f"{port.host_address} . {port.protocol} . {port.host_port}"
            lines.append(f"{verb} element inet {home.table} published_one {{ {key}{target} }}")
    return lines


def admit(home: Home, interface: str, mac: str, address: str, ports: tuple[Port, ...]) -> None:
    """Let one container's frames in and publish its ports.  Twice is once."""
    nft.run(member_elements(home, interface, mac, address, ports))


def member_elements(home: Home, interface: str, mac: str, address: str, ports: tuple[Port, ...]) -> str:
    return "\n".join(
        [
            f"add element bridge {home.table} members {{ {interface} . {mac} . {address} }}",
            f"add element bridge {home.table} ports {{ {interface} }}",
            *_publications(home, ports, address, "add"),
        ]
    )


def expel(home: Home, interface: str, mac: str, address: str, ports: tuple[Port, ...]) -> None:
    """Undo admit; what is not there is no error.

    One transaction when all is there: each costs a grace period of the kernel's (13 ms measured).
    """
    lines = [
        *_publications(home, ports, address, "delete"),
        f"delete element bridge {home.table} members {{ {interface} . {mac} . {address} }}",
        f"delete element bridge {home.table} ports {{ {interface} }}",
    ]
    try:
        nft.run("\n".join(lines))
    except nft.NftablesFault:
        for line in lines:
            _delete_if_there(line)


def _delete_if_there(line: str) -> None:
    try:
        nft.run(line)
    except nft.NftablesFault as fault:
        if "No such file" not in fault.message:
            raise


def bridge_elements(home: Home, bridge: str, subnet: str) -> str:
    """A host with br_netfilter passes frames within one bridge through ``forward``, too: ``same`` lets those go on."""
    elements = {"bridges": bridge, "same": f"{bridge} . {bridge}", "subnets": subnet}
    return "\n".join(f"add element inet {home.table} {name} {{ {element} }}" for name, element in elements.items())


def _removal(home: Home) -> str:
    """Also of what is not there."""
    return "\n".join(
        f"{verb} table {family} {home.table}" for family in ("inet", "bridge") for verb in ("add", "delete")
    )


def remove(home: Home) -> None:
    """Both tables, with everything in them."""
    nft.run(_removal(home))
