"""Onto one network more, or off one, while a container runs; the specification decides which it is to be.

connect      claim, write the place down, rules, interface, bandwidth, address, specification, event, names, record.
             Until the specification has it recovery takes the place away; from then on it is done.
disconnect   specification, interface down, its last figures stored, interface, rules, place, addresses, event, names, record.
             Once the specification has it no more recovery finishes.

Names and the record follow what is done already: what the kernel refuses there is logged, and left to recovery as after a crash.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from runtime import logs
from runtime.api import Attachment, ContainerSpec, State
from runtime.engines.native import etc, moves
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Record, Records
from runtime.errors import EngineFault, RuntimeFault
from runtime.home import Home
from runtime.kernel import link
from runtime.network import holding, membership
from runtime.network.attach import TenantNetworks
from runtime.network.endpoint import Endpoint, Place
from runtime.network.joining import Joining
from runtime.network.segments import Segment
from runtime.telemetry import interfaces
from runtime.telemetry.journal import Journal

Truth = tuple[ContainerSpec, Record]

logger = logs.of(__name__)


class Connecting:
    """The caller holds the container's lock, and keeps its networks from being removed."""

    def __init__(self, home: Home, records: Records, networks: TenantNetworks, journal: Journal) -> None:
        self._home = home
        self._records = records
        self._journal = journal
        self._networks = networks
        self._joining = Joining(home, networks)

    def connect(self, spec: ContainerSpec, record: Record, segment: Segment, asked: Attachment) -> Truth:
        """Raises as :meth:`runtime.api.Networks.connect` says; then it is as it was."""
        wanted = membership.with_network(spec, asked)
        with contextlib.ExitStack() as undo:
            holding.hold(self._home, wanted, self._records.name)
            undo.callback(holding.let_go, self._home, spec, (asked,))
            failpoint("connect.held")
            if record.state is not State.RUNNING:
                self._records.save_spec(wanted)
                undo.pop_all()
                failpoint("connect.written")
                moves.connected(self._journal, wanted, asked.network, ())
                return wanted, record
            joined = self._joining.reserve(self._whole(spec.id), segment, asked, len(wanted.networks) - 1)
            undo.callback(self._undo, spec, joined)
            failpoint("connect.placed")
            self._joining.admit(joined)
            failpoint("connect.admitted")
            self._joining.attach(joined)
            interfaces.joined(self._home, spec.id, _names(joined))
            failpoint("connect.attached")
            self._joining.open(joined)
            failpoint("connect.opened")
            self._records.save_spec(wanted)
            undo.pop_all()
        failpoint("connect.written")
        moves.connected(self._journal, wanted, asked.network, joined.connections)
        return wanted, self._followed(spec.id, record, joined)

    def _undo(self, spec: ContainerSpec, joined: Endpoint) -> None:
        """The person is told of the first failure, not of this one; recovery tries again."""
        try:
            self._withdraw(joined, joined.places[-1])
        except (RuntimeFault, OSError):
            logger.exception("a place of %s could not be taken away; recovery tries again", spec.id)

    def disconnect(self, spec: ContainerSpec, record: Record, network: str) -> Truth:
        """Raises as :meth:`runtime.api.Networks.disconnect` says."""
        wanted = membership.without_network(spec, network)
        gone = [one for one in spec.networks if one.network == network]
        if record.state is not State.RUNNING:
            self._records.save_spec(wanted)
            failpoint("disconnect.written")
            holding.let_go(self._home, spec, gone)
            failpoint("disconnect.freed")
            moves.disconnected(self._journal, wanted, network)
            return wanted, record
        made = self._whole(spec.id)
        self._records.save_spec(wanted)
        failpoint("disconnect.written")
        left = self._only_wanted(wanted, made)
        holding.let_go(self._home, spec, gone)
        failpoint("disconnect.freed")
        moves.disconnected(self._journal, wanted, network)
        return wanted, self._followed(spec.id, record, left)

    def _whole(self, id: str) -> Endpoint:
        """Raises EngineFault when somebody has taken an interface away: what went over it nobody can tell any more."""
        made = self._networks.endpoint(id)
        if made is None or not all(link.exists(place.interface) for place in made.places):
            raise EngineFault("The container's network interface is gone.", hint="Restart the container.")
        return made

    def finish(self, spec: ContainerSpec, record: Record) -> Truth:
        """What a crash cut short, of a container that runs: no place that its specification has not, and all told of the others."""
        made = self._networks.endpoint(spec.id)
        if made is None:
            return spec, record
        left = self._only_wanted(spec, made)
        if record.networks == left.connections:
            return spec, record
        moves.retell(self._journal, spec, record, left.connections)
        return spec, self._follow(spec.id, record, left)

    def _only_wanted(self, spec: ContainerSpec, made: Endpoint) -> Endpoint:
        for place in made.places:
            if place.network not in membership.networks_of(spec):
                made = self._withdraw(made, place)
        return made

    def _withdraw(self, made: Endpoint, place: Place) -> Endpoint:
        self._joining.close(place)
        failpoint("disconnect.closed")
        left = [name for name in _names(made) if name != place.interface]
        interfaces.retire(self._home, made.container, place.interface, left)
        failpoint("disconnect.counted")
        return self._joining.leave(made, place)

    def _follow(self, id: str, record: Record, made: Endpoint) -> Record:
        """The record comes last: while it differs from the places, recovery comes here."""
        self._joining.follow(made)
        etc.follow(self._home.bundle(id), made)
        failpoint("networks.followed")
        told = _told(record, made)
        self._records.save(id, told)
        return told

    def _followed(self, id: str, record: Record, made: Endpoint) -> Record:
        """As it is now, also when not all could follow."""
        try:
            return self._follow(id, record, made)
        except (RuntimeFault, OSError):
            logger.exception("the way out and the names of %s do not follow its networks yet; recovery tries again", id)
            return _told(record, made)


def _told(record: Record, made: Endpoint) -> Record:
    return replace(record, networks=made.connections, address=made.address)


def _names(made: Endpoint) -> list[str]:
    return [place.interface for place in made.places]
