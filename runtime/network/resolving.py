"""Whom a container asks for names: its ``/etc/resolv.conf`` (resolv.conf(5))."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from runtime.network.endpoint import Endpoint
from runtime.network.names import DOMAIN

NAME_SERVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""Where systemd-resolved works, the first names only its stub on the loopback, and the second what it asks itself."""


def resolv_conf(endpoint: Endpoint, sources: Sequence[Path] = NAME_SERVERS) -> str:
    """Its network's own server and the names of all its networks before the node's domains; on flat networks alone, the node's servers."""
    places = sorted(endpoint.places, key=lambda place: place != endpoint.main)
    asked = next((place.names for place in places if place.names), "")
    if not asked:
        return of_node(sources)
    rows = [line.split() for line in _node(sources)]
    domains = [f"{place.network}.{DOMAIN}" for place in places if place.names]
    domains += [word for row in rows if row[:1] == ["search"] for word in row[1:]]
    options = [" ".join(row) for row in rows if row[:1] == ["options"]]
    return "\n".join([f"nameserver {asked}", f"search {' '.join(dict.fromkeys(domains))}", *options]) + "\n"


def of_node(sources: Sequence[Path] = NAME_SERVERS) -> str:
    """The node's name servers that a container can reach: of the first source that names any, else none.

    Left out are those on the node's own loopback and those of IPv6, which not every network has.
    """
    return "\n".join(_node(sources)) + "\n"


def _node(sources: Sequence[Path]) -> list[str]:
    kept: list[str] = []
    for source in sources:
        try:
            lines = source.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            continue
        kept = [line for line in lines if line.startswith(("search", "options")) or _reachable_server(line)]
        if any(map(_reachable_server, kept)):
            break
    return kept


def _reachable_server(line: str) -> bool:
    words = line.split()
    if words[:1] != ["nameserver"] or len(words) < 2:
        return False
    try:
        return not ipaddress.IPv4Address(words[1]).is_loopback
    except ValueError:
        return False
