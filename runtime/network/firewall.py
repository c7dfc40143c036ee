"""The rule set of an instance: what tenants' networks may reach, and how published ports are reached.

Two tables of our own, ``inet <instance>`` and ``bridge <instance>``; nobody else's rules are touched.  Containers
are elements of sets and maps, so a launch adds elements and never a rule.

forward     a tenant's bridge to another bridge of this instance, and to link-local addresses, where clouds tell a node its
            credentials: dropped; established and published: accepted.  Into and out of an internal network: nothing.
input       from a bridge to the node itself: ping, replies, neighbour discovery, and questions for names; nothing else.
martians    from a bridge to an address of the node's loopback: dropped before anything can redirect it.
prerouting, output
            questions for names, which must come before published ports (one may be 53); published ports by maps: of one
            address, and of any address of the node, each for IPv4 and IPv6.
tracked, forward
            a container's address has so many connections in the node's table and no more (:func:`flows`), of those that it
            began and of those that came to it from beyond; one more is dropped, and for a second all that are new.  On a bridge of
            the node's own (a flat network) likewise: what goes to the node or through it is in the table, and where br_netfilter
            is at work all that passes the bridge.
postrouting masquerade for what leaves a tenant's subnet, for localhost's way in, and for hairpins.
bridge      a container's frames must carry the MAC and the addresses that it was given, in every header that has them, and it
            advertises no router and no address that is another's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from runtime.api import ANY_ADDRESS, ANY_ADDRESS6, Port
from runtime.home import Home
from runtime.kernel import nft
from runtime.network.addresses import is_ipv6
from runtime.network.endpoint import Endpoint, Place
from runtime.network.segments import Segment

NAMES_PORT = 10053
"""Where a network's name server listens on the gateway's address: 53 there stays free for a container to publish."""
QUESTIONS_PER_S = 2000
"""That a network's containers may ask; more are dropped, so that nobody burns the node's processors by asking."""
TABLE = Path("/proc/sys/net/netfilter/nf_conntrack_max")
"""How many connections the node tracks at most; not there before something has them tracked."""
USUAL_TABLE, SHARES = 262_144, 128
"""A container with both families has four: 24 of one tenant that fill all of theirs leave a quarter of the table."""
QUESTION_S = 5
"""How long a question for a name stays in the node's table: as long as a resolver waits for the answer (resolv.conf(5)).  Each counts among
its container's connections, and 30 s as other datagrams have would leave one of 2,048 no more than 68 questions a second.
"""
COUNTED = {
    "began": (("began", "ipv4_addr", "ip saddr"), ("began6", "ipv6_addr", "ip6 saddr")),
    "came": (("came", "ipv4_addr", "ip daddr"), ("came6", "ipv6_addr", "ip6 daddr")),
    "flat_began": (("flat_began", "ifname . ipv4_addr", "iifname . ip saddr"),),
    "flat_came": (("flat_came", "ifname . ipv4_addr", "oifname . ip daddr"),),
}
"""By chain: the sets that count, their type, and the container's end of the packet.  Two bridges of the node may have the same addresses."""
BRAKE = "1s"
"""How long nothing new passes once there are too many.  Each that is counted and then dropped stays in the kernel's list for a while
(nf_conncount.c clears eight at a time), so a flood must not be counted."""
GONE = ("No such file", "element does not exist")
"""How nft says it of an element of a set, and of one of intervals."""


def present(home: Home) -> bool:
    """These very rules: an older version's, or with another limit, are not."""
    wanted = {("inet", home.table, _counted(home)), ("inet", home.table, "flat_began"), ("bridge", home.table, "own")}
    chains = [row["chain"] for row in nft.query("list chains") if "chain" in row]
    return wanted <= {(chain["family"], chain["table"], chain["name"]) for chain in chains}


def _counted(home: Home) -> str:
    """The chain that counts connections, whose name tells how many."""
    return f"began_{flows(home)}"


def flows(home: Home) -> int:
    """Of one address of a container, each way."""
    try:
        table = int(TABLE.read_text(encoding="ascii"))
    except FileNotFoundError:
        table = USUAL_TABLE
    return home.flows or max(1, table // SHARES)


def install(home: Home, elements: Sequence[str] = ()) -> None:
    """The whole rule set with these elements, in one transaction, in place of what is there of it.

    Once more where these rules are what has the kernel track connections: only then it tells how many at most.
    """
    supposed = flows(home)
    nft.run("\n".join((_removal(home), _rules(home), *elements)))
    if flows(home) != supposed:
        nft.run("\n".join((_removal(home), _rules(home), *elements)))


def _rules(home: Home) -> str:
    table = home.table
    return f"""
table inet {table} {{
  set bridges {{ type ifname; }}
  set internal {{ type ifname; }}
  set same {{ type ifname . ifname; }}
  set subnets {{ type ipv4_addr; flags interval; }}
  set subnets6 {{ type ipv6_addr; flags interval; }}
  set resolvers {{ type ifname . ipv4_addr; }}
  set asking {{ type ifname; size 65535; flags dynamic,timeout; timeout 1m; }}
  set flat {{ type ifname . ether_addr . ipv4_addr; }}
  set to_flat {{ type ifname . ipv4_addr; }}
{_flow_sets()}
  ct timeout question {{ protocol udp; l3proto ip; policy = {{ unreplied : {QUESTION_S}, replied : {QUESTION_S} }}; }}
  map published_any {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map published_one {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  map published_any6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
  map published_one6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
  chain publish {{
    dnat ip to ip daddr . meta l4proto . th dport map @published_one
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published_any
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_one6
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published_any6
  }}
  chain martians {{
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
  }}
  chain tracked {{
    type filter hook prerouting priority mangle; policy accept;
    iifname . ip daddr @resolvers udp dport 53 ct state new ct timeout set "question"
    iifname @bridges ct state new ct status ! confirmed jump {_counted(home)}
    iifname . ether saddr . ip saddr @flat ct state new ct status ! confirmed jump flat_began
  }}
  chain {_counted(home)} {{
{_flow_rules("began", flows(home))}
  }}
  chain came {{
{_flow_rules("came", flows(home))}
  }}
  chain flat_began {{
{_flow_rules("flat_began", flows(home))}
  }}
  chain flat_came {{
{_flow_rules("flat_came", flows(home))}
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    meta l4proto {{ tcp, udp }} th dport 53 iifname . ip daddr @resolvers redirect to :{NAMES_PORT}
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
    ct status dnat ip6 saddr @subnets6 oifname @bridges masquerade
    ip6 saddr @subnets6 oifname != @bridges masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    oifname . ip daddr @to_flat ct state new ct status ! confirmed jump flat_came
    iifname @bridges jump from_tenant
    oifname @internal drop
    oifname @bridges ct state new ct status ! confirmed jump came
    oifname @bridges ct status dnat accept
    oifname @bridges drop
  }}
  chain from_tenant {{
    iifname . oifname @same accept
    iifname @internal drop
    oifname @internal drop
    ct status dnat accept
    ip daddr 169.254.0.0/16 drop
    ip6 daddr fe80::/10 drop
    oifname @bridges drop
    meta nfproto ipv6 ip6 saddr != @subnets6 drop
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname @bridges jump to_node
  }}
  chain to_node {{
    meta l4proto {{ tcp, udp }} th dport {NAMES_PORT} iifname . ip daddr @resolvers jump questions
    ct state established,related accept
    icmp type echo-request accept
    icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert }} accept
    drop
  }}
  chain questions {{
    update @asking {{ iifname limit rate over {QUESTIONS_PER_S}/second burst {QUESTIONS_PER_S} packets }} drop
    accept
  }}
}}
table bridge {table} {{
  set members {{ type ifname . ether_addr . ipv4_addr; }}
  set members6 {{ type ifname . ether_addr . ipv6_addr; }}
  set advertised {{ typeof iifname . @th,64,128; }}
  set ports {{ type ifname; }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname @ports jump own
  }}
  chain own {{
    ether type ip iifname . ether saddr . ip saddr @members accept
    ether type arp iifname . ether saddr . arp saddr ip @members iifname . arp saddr ether . arp saddr ip @members accept
    ether type ip6 jump own6
    drop
  }}
  chain own6 {{
    icmpv6 type {{ nd-router-advert, nd-redirect, mld-listener-query }} drop
    icmpv6 type nd-neighbor-advert iifname . @th,64,128 @advertised iifname . ether saddr . ip6 saddr @members6 accept
    icmpv6 type nd-neighbor-advert drop
    iifname . ether saddr . ip6 saddr @members6 accept
  }}
}}
"""  # noqa: S608 -- no database is spoken to


def _flow_sets() -> str:
    """Of connections by the container's address, and of addresses that have too many."""
    return "\n".join(
        f"  set {name} {{ type {kind}; size 65535; flags dynamic; }}\n"
        f"  set {name}_full {{ type {kind}; size 65535; flags dynamic,timeout; timeout {BRAKE}; }}"
        for counted in COUNTED.values()
        for name, kind, _ in counted
    )


def _flow_rules(chain: str, most: int) -> str:
    """For a packet that may begin a connection."""
    return "\n".join(
        f"    {end} @{name}_full drop\n    add @{name} {{ {end} ct count over {most} }} add @{name}_full {{ {end} }} drop"
        for name, _, end in COUNTED[chain]
    )


def add_segment(home: Home, segment: Segment) -> None:
    nft.run(segment_elements(home, segment))


def segment_elements(home: Home, segment: Segment) -> str:
    """None for a flat one: its bridge is not ours."""
    return "" if segment.flat else _lines(home, "add", _segment(segment))


def remove_segment(home: Home, segment: Segment) -> None:
    """What is not there is no error."""
    if not segment.flat:
        _delete(_lines(home, "delete", _segment(segment)))


def _segment(segment: Segment) -> list[tuple[str, str, str]]:
    """A host with br_netfilter passes frames within one bridge through ``forward``, too: ``same`` lets those go on."""
    found = [
        ("inet", "bridges", segment.bridge),
        ("inet", "same", f"{segment.bridge} . {segment.bridge}"),
        ("inet", "subnets", segment.subnet),
        ("inet", "resolvers", f"{segment.bridge} . {segment.gateway}"),
    ]
    if segment.subnet6:
        found.append(("inet", "subnets6", segment.subnet6))
    if segment.internal:
        found.append(("inet", "internal", segment.bridge))
    return found


def _publications(endpoint: Endpoint, verb: str) -> list[tuple[str, str, str]]:
    found = []
    for port in endpoint.ports:
        family, name, key, six = _published(port)
        address = endpoint.main.address6 if six else endpoint.main.address
        target = f" : {address} . {port.container_port}" if verb == "add" else ""
        found.append((family, name, f"{key}{target}"))
    return found


def _published(port: Port) -> tuple[str, str, str, bool]:
    """Family, map and key, and whether it is IPv6."""
    six = is_ipv6(port.host_address)
    key = f"{port.protocol} . {port.host_port}"
    if port.host_address in {ANY_ADDRESS, ANY_ADDRESS6}:
        return "inet", "published_any" + "6" * six, key, six
    return "inet", "published_one" + "6" * six, f"{port.host_address} . {key}", six


def _membership(place: Place) -> list[tuple[str, str, str]]:
    member = f"{place.interface} . {place.mac}"
    found = [("bridge", "members", f"{member} . {place.address}"), ("bridge", "ports", place.interface)]
    if place.flat:
        found.append(("inet", "flat", f"{place.bridge} . {place.mac} . {place.address}"))
        found.append(("inet", "to_flat", f"{place.bridge} . {place.address}"))
    for address in (place.address6, link_local(place.mac)) if place.address6 else ():
        found.append(("bridge", "members6", f"{member} . {address}"))
        found.append(("bridge", "advertised", _advertised(place.interface, address)))
    return found


def _advertised(interface: str, address: str) -> str:
    return f"{interface} . {int(ipaddress.IPv6Address(address)):#034x}"


def link_local(mac: str) -> str:
    """The address that the kernel gives an interface by itself (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def admit(home: Home, endpoint: Endpoint) -> None:
    """Let one container's frames in and publish its ports.  Twice is once."""
    nft.run(member_elements(home, endpoint))


def member_elements(home: Home, endpoint: Endpoint) -> str:
    return _lines(home, "add", _of_endpoint(endpoint, "add"))


def expel(home: Home, endpoint: Endpoint) -> None:
    """Undo admit; what is not there is no error.

    One transaction when all is there: each costs a grace period of the kernel's (13 ms measured).
    """
    _delete(_lines(home, "delete", _of_endpoint(endpoint, "delete")))


def expel_by_name(home: Home, interfaces: Sequence[str], ports: Sequence[Port]) -> None:
    """Likewise of a container of which nothing else is known: what the rules have of its host's ends tells the rest."""
    if not present(home):
        return
    rows = [("bridge", "ports", interface) for interface in interfaces]
    macs = set()
    for name in ("members", "members6"):
        for interface, mac, address in _elements(home, "bridge", name):
            if interface in interfaces:
                macs.add(mac)
                rows.append(("bridge", name, f"{interface} . {mac} . {address}"))
                if name == "members6":
                    rows.append(("bridge", "advertised", _advertised(interface, address)))
    for bridge, mac, address in _elements(home, "inet", "flat"):
        if mac in macs:
            rows.append(("inet", "flat", f"{bridge} . {mac} . {address}"))
            rows.append(("inet", "to_flat", f"{bridge} . {address}"))
    rows += [(family, name, key) for family, name, key, _ in map(_published, ports)]
    _delete(_lines(home, "delete", rows))


def _elements(home: Home, family: str, name: str) -> list[list[str]]:
    """Of a set of concatenations."""
    rows = [row["set"] for row in nft.query(f"list set {family} {home.table} {name}") if "set" in row]
    return [element["concat"] for row in rows for element in row.get("elem", ())]


def _of_endpoint(endpoint: Endpoint, verb: str) -> list[tuple[str, str, str]]:
    members = [row for place in endpoint.places for row in _membership(place)]
    return members + _publications(endpoint, verb)


def _lines(home: Home, verb: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """Of family, set and element."""
    return "\n".join(f"{verb} element {family} {home.table} {name} {{ {element} }}" for family, name, element in rows)


def _delete(lines: str) -> None:
    try:
        nft.run(lines)
    except nft.NftablesFault:
        for line in lines.splitlines():
            _delete_if_there(line)


def _delete_if_there(line: str) -> None:
    try:
        nft.run(line)
    except nft.NftablesFault as fault:
        if not any(words in fault.message for words in GONE):
            raise


def _removal(home: Home) -> str:
    """Also of what is not there."""
    return "\n".join(
        f"{verb} table {family} {home.table}" for family in ("inet", "bridge") for verb in ("add", "delete")
    )


def remove(home: Home) -> None:
    """Both tables, with everything in them."""
    nft.run(_removal(home))
