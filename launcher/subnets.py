"""What routes this machine has, and which of its bridges are this instance's."""

from __future__ import annotations

import hashlib
import ipaddress

from launcher.settings import Settings

BRIDGE = "swb"
"""Every tenant's bridge begins so, whichever instance made it."""


def routed(table: str) -> list[tuple[str, ipaddress.IPv4Network]]:
    """Device and destination of each route but the default one, from the text of /proc/net/route (little-endian hex)."""
    found = []
    for row in (line.split() for line in table.splitlines()[1:]):
        address, mask = (int.from_bytes(bytes.fromhex(row[at]), "little") for at in (1, 7))
        if mask:
            found.append((row[0], ipaddress.IPv4Network((address, mask.bit_count()), strict=False)))
    return found


def own_bridges(settings: Settings) -> set[str]:
    """Of the tenants and networks that this home knows, whether or not a container of theirs runs; named in runtime.home."""
    state = settings.home / "runtime"
    try:
        owners = [path.stem for path in state.glob("tenants/*.json")]
        owners += [f"{path.parent.name}/{path.stem}" for path in state.glob("networks/*/*.json")]
    except OSError:
        return set()
    return {BRIDGE + hashlib.sha256(f"{settings.instance}/{owner}".encode()).hexdigest()[:10] for owner in owners}
