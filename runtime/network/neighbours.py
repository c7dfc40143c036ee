"""How many neighbours a container may look for: the node's tables of them (arp(7), ip-sysctl.rst: neigh/default/gc_thresh3) are one for all
network namespaces, and who sends to each address of its network fills them, whether anybody is there or not.  Then nobody on the node finds
anybody new: other tenants' containers not their gateways, the node not its own.

The kernel bounds that by no namespace, so a rule in each container's does: an entry is made after the last hook, and ``rt nexthop`` is whom it
would be made of.  The container has no capability to change it.
"""

from __future__ import annotations

from pathlib import Path

from runtime import logs
from runtime.kernel import nft
from runtime.kernel.namespaces import inside_network

TABLES = tuple(Path(f"/proc/sys/net/{family}/neigh/default") for family in ("ipv4", "ipv6"))
ROOM = 65_536
"""Entries of each table, of some 400 bytes.  The kernel's own 1,024 are too few for a thousand containers that know no more than their gateways."""
MOST = ROOM // 128
"""Of one container at once: 24 of one tenant leave four fifths."""
FORGOTTEN_S = 30
RULES = f"""
table inet slipway {{
  set near {{ typeof rt ip nexthop; size {MOST}; flags dynamic,timeout; timeout {FORGOTTEN_S}s; }}
  set near6 {{ typeof rt ip6 nexthop; size {MOST}; flags dynamic,timeout; timeout {FORGOTTEN_S}s; }}
  chain out {{
    type filter hook postrouting priority filter; policy accept;
    oifname "lo" accept
    meta nfproto ipv4 update @near {{ rt ip nexthop }} accept
    meta nfproto ipv6 update @near6 {{ rt ip6 nexthop }} accept
    drop
  }}
}}
"""

logger = logs.of(__name__)


def make_room() -> None:
    """In the node's tables.  Where it cannot be had, containers go on with what there is."""
    for table in TABLES:
        for name, wanted in (("gc_thresh3", ROOM), ("gc_thresh2", ROOM // 2)):
            try:
                if int((table / name).read_text(encoding="ascii")) < wanted:
                    (table / name).write_text(str(wanted), encoding="ascii")
            except FileNotFoundError:  # a node without IPv6
                continue
            except OSError as error:
                logger.warning("the node's table of neighbours is small: %s cannot be raised: %s", table / name, error)


def bound(netns: Path) -> None:
    """Of what is in the namespace that is pinned there, which has no such rule yet."""
    with inside_network(netns):
        nft.run(RULES)
