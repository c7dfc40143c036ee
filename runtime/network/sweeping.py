"""Networks that a crash removed half, and what is damaged of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runtime import logs
from runtime.home import Home
from runtime.kernel import link
from runtime.network import placement
from runtime.network.attach import BRIDGES, LOCK, TenantNetworks
from runtime.network.tenants import marks

logger = logs.of(__name__)


def sweep(home: Home, networks: TenantNetworks) -> tuple[str, ...]:
    """Told as ``kind:name``.  The caller holds the lock that keeps containers from being created.

    A network without a file goes, and so does its bridge, unless a container is on it: then it was not removed, and is written down anew.
    """
    used = {place.bridge for one in placement.readable(home) for place in one.places}
    swept = []
    for segment in networks.up():
        if networks.segments.whole(segment):
            continue
        if segment.bridge in used or networks.segments.exists(segment):
            logger.warning("the network %s of %s is written down anew", segment.name, segment.tenant)
            networks.segments.restore(segment)
        else:
            networks.take_down(segment)
            swept.append(f"network:{segment.tenant}/{segment.name}")
    return (*swept, *_sweep_marks(home, networks))


def _sweep_marks(home: Home, networks: TenantNetworks) -> Iterator[str]:
    """Marks of bridges that are damaged: written anew, or taken away with the bridge, which is of no network any more."""
    for mark in sorted(marks(home).glob("[!.]*")):
        if networks.segments.marked(mark) is not None:
            continue
        with home.lock(LOCK):
            segment = networks.segments.of_mark(mark)
            if segment is not None:
                networks.write_mark(segment)
            else:
                _take_away(networks, mark)
                yield f"bridge:{mark.name}"


def _take_away(networks: TenantNetworks, mark: Path) -> None:
    if mark.name.startswith(BRIDGES) and link.is_bridge(mark.name):
        networks.names.silence(mark.name)
        link.remove(mark.name)
    mark.unlink(missing_ok=True)
    networks.install_rules()
