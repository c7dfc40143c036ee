"""A container that runs comes onto one network more, or leaves one.

Its place is written down before anything of it is in the kernel, and until nothing is, so whoever finds it there finishes.  An interface comes
after the rules that bind it, and has its bandwidth before it has an address; it goes before they do.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.api import Attachment
from runtime.failpoint import failpoint
from runtime.home import Home
from runtime.kernel import link
from runtime.network import endpoint, firewall, placement
from runtime.network.attach import TenantNetworks, inside
from runtime.network.endpoint import Endpoint, Place
from runtime.network.segments import Segment


class Joining:
    """The caller holds the container's lock, and keeps its networks from being removed."""

    def __init__(self, home: Home, networks: TenantNetworks) -> None:
        self._home = home
        self._networks = networks

    def reserve(self, made: Endpoint, segment: Segment, asked: Attachment, index: int) -> Endpoint:
        """Raises as :func:`runtime.network.placement.add` does, and as TenantNetworks.ensure; then nothing is left."""
        self._networks.ensure(segment)
        joined = placement.add(self._home, made, segment, asked, index)
        endpoint.save(self._home, joined)
        return joined

    def admit(self, joined: Endpoint) -> None:
        """Let the packets of its last place through, and only its own."""
        self._networks.let_in(_alone(joined, joined.places[-1]))

    def attach(self, joined: Endpoint) -> None:
        """An interface for its last place, which nothing passes yet."""
        place = joined.places[-1]
        link.add_veth(place.interface, place.bridge, self._home.netns(joined.container), place.mac, place.inside)
        self._networks.limit(_alone(joined, place))

    def open(self, joined: Endpoint) -> None:
        place = joined.places[-1]
        link.configure_inside(self._home.netns(joined.container), [inside(place, joined.main)])

    def close(self, place: Place) -> None:
        """Nothing passes it any more: its counters are final."""
        link.take_down(place.interface)

    def leave(self, made: Endpoint, place: Place) -> Endpoint:
        """What is left of a place in the kernel, then its addresses.  What is gone is no error."""
        link.remove(place.interface)
        failpoint("disconnect.unlinked")
        firewall.expel(self._home, _alone(made, place))
        failpoint("disconnect.expelled")
        return placement.drop(self._home, made, place.network)

    def follow(self, made: Endpoint) -> None:
        """The way out and the names, as its places are now."""
        link.lead_out(self._home.netns(made.container), inside(made.main, made.main))
        self._networks.tell(made)


def _alone(made: Endpoint, place: Place) -> Endpoint:
    """That place, without the published ports, which lead to another."""
    return replace(made, places=(place,), ports=())
