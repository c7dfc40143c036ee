"""What the engine says of containers, into their rows.  Idempotent; a report of an earlier start never overwrites a later one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from console.accounts.models import User
from console.core.live import announce
from console.metering import services as metering
from console.operations.models import Operation
from console.workloads import restarts
from console.workloads.models import Attachment, Container, ContainerEvent, Network, PublishedPort
from console.workloads.services import networks
from console.workloads.services.addresses import plain
from console.workloads.services.spec import attachment_of
from runtime import api
from runtime.api import DEFAULT_NETWORK, Connection, ContainerSpec, ContainerStatus, Port, State
from runtime.errors import RuntimeFault

NOWHERE = Connection("", "")
OWN = api.Attachment(DEFAULT_NETWORK)


def _when(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


@transaction.atomic
def observe(status: ContainerStatus, *, actor: User | None = None, why: str = "") -> None:
    """What the engine says, into the row.  Idempotent; a report of an earlier start never overwrites a later one."""
    container = Container.objects.select_for_update(no_key=True).filter(pk=status.id, removed_at__isnull=True).first()
    if container is None or status.epoch < container.epoch or status.state not in {State.RUNNING, State.EXITED}:
        return
    state = Container.State.RUNNING if status.state is State.RUNNING else Container.State.EXITED
    if _as_told(container) == _tells(status, state):
        if state == Container.State.RUNNING and _place(container, status.networks):
            announce(container.tenant_id, "container", container.id, state=container.state)
        return
    if (
        status.epoch == container.epoch
        and container.state == Container.State.EXITED
        and state == Container.State.RUNNING
    ):
        return  # a start that has ended by now; the report of its beginning came late
    new_start = status.epoch > container.epoch
    unseen_end = container.epoch if new_start and container.state == Container.State.RUNNING else 0
    ended_before = (container.state, container.epoch) == (Container.State.EXITED, status.epoch)
    frozen_before = container.paused and not new_start
    health_before = "" if new_start else container.health
    container.state = state
    container.restart_at = _when(status.restart_at)
    container.restarts = status.restarts
    container.health = status.health
    container.health_output = status.health_output
    container.paused = status.paused
    container.epoch = status.epoch
    container.address = status.address
    container.exit_code = status.exit_code
    container.oom_killed = status.oom_killed
    container.reason = status.reason
    container.started_at = _when(status.started_at)
    container.finished_at = _when(status.finished_at)
    container.save()
    if new_start:
        metering.begin(status, container)  # before what it holds: so everybody locks
    metering.hold_disk(container, dt.datetime.fromtimestamp(status.created_at, dt.UTC))
    _place(container, status.networks)
    if state == Container.State.RUNNING:
        _publish(container, status.ports, unseen_end)
    if new_start:
        ContainerEvent.objects.create(container=container, kind=_start_kind(status, why), actor=actor)
    if state == Container.State.EXITED:
        if not ended_before:
            _exited(container, actor, unseen_end, unseen_start=new_start)
        restarts.waits(container, status)
    if state == Container.State.RUNNING and container.paused != frozen_before:
        kind = ContainerEvent.Kind.PAUSED if container.paused else ContainerEvent.Kind.RESUMED
        ContainerEvent.objects.create(container=container, kind=kind, actor=actor)
    restarts.health_changed(container, health_before, status)
    announce(container.tenant_id, "container", container.id, state=container.state)


def _as_told(row: Container) -> tuple[object, ...]:
    return (row.address, row.state, row.epoch, row.exit_code, row.restart_at, row.restarts, row.health, row.paused)


def _tells(status: ContainerStatus, state: Container.State) -> tuple[object, ...]:
    at = _when(status.restart_at)
    return (status.address, state, status.epoch, status.exit_code, at, status.restarts, status.health, status.paused)


def _places(container: Container, networks_now: Collection[str]) -> list[Attachment]:
    """In the order of its interfaces.  One from before there were rows for them has a place on ``default``, if the engine has it there."""
    places = list(container.attachments.select_related("network"))
    if places or DEFAULT_NETWORK not in networks_now:
        return places
    return [Attachment.objects.create(container=container, network=networks.default(container.tenant, container.node))]


def _place(container: Container, connections: Iterable[Connection]) -> bool:
    """Its addresses while it runs, into its rows, and whether they are others."""
    now = {one.network: one for one in connections}
    moved = []
    for place in _places(container, now):
        told = now.get(place.network.name, NOWHERE)
        there = (told.address or None, told.address6 or None, told.interface)
        if there != (place.address, place.address6, place.interface):
            place.address, place.address6, place.interface = there
            moved.append(place)
    Attachment.objects.bulk_update(moved, ["address", "address6", "interface"])
    return bool(moved)


@transaction.atomic
def changed(spec: ContainerSpec, *, actor: User | None = None) -> None:
    """The name, the limits and the networks that it has by now, and an event of each that is new.  Idempotent."""
    container = Container.objects.select_for_update(no_key=True).filter(pk=spec.id, removed_at__isnull=True).first()
    if container is None:
        return
    limits = spec.limits
    now = {"memory_bytes": limits.memory_bytes, "cpu_millis": limits.cpu_millis, "pids": limits.pids}
    before = {name: getattr(container, name) for name in now}
    if container.name != spec.name:
        _tell_change(container, ContainerEvent.Kind.RENAMED, actor, before=container.name, after=spec.name)
    if before != now:
        _tell_change(container, ContainerEvent.Kind.UPDATED, actor, before=before, after=now)
    if _moved(container, spec, actor):
        announce(container.tenant_id, "container", container.id, state=container.state)
    if container.name != spec.name or before != now:
        Container.objects.filter(pk=container.pk).update(name=spec.name, **now)
        container.name = spec.name
        metering.renamed(container, timezone.now())
        announce(container.tenant_id, "container", container.id, state=container.state)


def _moved(container: Container, spec: ContainerSpec, actor: User | None) -> bool:
    """Whether its places were others than the engine's, in the order of its interfaces.  They follow, with an event of each that came or went.

    A network that no row knows, made at the node, is no place of the container's here: reconciliation tells of it by its name.  Addresses are :func:`observe`'s.
    """
    asked = {one.network: plain(one) for one in spec.networks or (OWN,)}
    rows = {row.network.name: row for row in _places(container, asked)}
    if list(asked.values()) == list(map(attachment_of, rows.values())):
        return False
    known = networks.named(container.tenant, container.node, asked)
    left = [rows.pop(name) for name in sorted(rows) if name not in asked]
    for row in left:
        row.delete()
        _tell_change(container, ContainerEvent.Kind.DISCONNECTED, actor, network=row.network.name)
    return _follow(container, {known[name]: asked[name] for name in asked if name in known}, rows, actor) or bool(left)


def _follow(
    container: Container, now: Mapping[Network, api.Attachment], rows: Mapping[str, Attachment], actor: User | None
) -> bool:
    """Whether any place of ``now`` was written: one that is new, that was asked for otherwise, or that lies behind another by now."""
    last, written = 0, False
    for network, asked in now.items():
        row = rows.get(network.name)
        if row is None:
            row = Attachment(container=container, network=network)
            _tell_change(container, ContainerEvent.Kind.CONNECTED, actor, network=network.name)
        elif row.pk < last:
            row.delete()  # and made anew, as the last
        if row.pk is None or attachment_of(row) != asked:
            row.aliases, written = list(asked.aliases), True
            row.requested_address, row.requested_address6 = asked.address, asked.address6
            row.save()
        last = row.pk
    return written


def _tell_change(container: Container, kind: ContainerEvent.Kind, actor: User | None, **data: object) -> None:
    ContainerEvent.objects.create(container=container, kind=kind, actor=actor, data=data)


def _start_kind(status: ContainerStatus, why: str) -> ContainerEvent.Kind:
    if status.restarts:
        return ContainerEvent.Kind.RESTARTED
    return ContainerEvent.Kind.ADOPTED if why == "adopted" else ContainerEvent.Kind.STARTED


def _publish(container: Container, ports: Iterable[Port], unseen_end: int) -> None:
    """A stopped container that wanted the same port learns at its next start that it is taken.  ``unseen_end``: as of :func:`_hold_ports`."""
    for row, port in zip(container.ports.order_by("pk"), ports, strict=False):
        if row.host_port != port.host_port:
            same = {"protocol": row.protocol, "host_address": row.host_address, "host_port": port.host_port}
            PublishedPort.objects.filter(**same, released_at__isnull=True).update(host_port=None)
            PublishedPort.objects.filter(pk=row.pk).update(host_port=port.host_port)
    _hold_ports(container, container.ports.filter(host_port__isnull=False).count(), unseen_end)


def _hold_ports(container: Container, count: int, unseen_end: int) -> None:
    """Since its start.  ``unseen_end``: the start before, whose end nobody told of, or 0; nothing was held between the two."""
    if container.started_at is None:
        return
    if unseen_end:
        metering.release_ports(container, metering.end_of(container, unseen_end) or container.started_at)
    metering.hold_ports(container, count, container.started_at)


def _exited(container: Container, actor: User | None, unseen_end: int, *, unseen_start: bool) -> None:
    """A port that the engine chose is free again; one that the person chose stays the container's.  ``unseen_start``: nobody told of
    its beginning, from which it held all its ports.
    """
    container.ports.filter(requested_port__isnull=True).update(host_port=None)
    if unseen_start:
        _hold_ports(container, container.ports.filter(released_at__isnull=True).count(), unseen_end)
    metering.release_ports(container, container.finished_at or timezone.now())
    kind = ContainerEvent.Kind.OOM if container.oom_killed else ContainerEvent.Kind.EXITED
    data = {"exit_code": container.exit_code, "reason": container.reason}
    ContainerEvent.objects.create(container=container, kind=kind, actor=actor, data=data)


@transaction.atomic
def launch_failed(container: Container, fault: RuntimeFault) -> None:
    """The row stays, with the sentence, until somebody starts it again or removes it.  One that has run is left as it is."""
    never = Container.objects.filter(
        pk=container.pk, epoch=0, state__in=[Container.State.PENDING, Container.State.FAILED]
    )
    if not never.update(state=Container.State.FAILED, reason=str(fault), address=None):
        return
    _place(container, ())
    container.ports.filter(requested_port__isnull=True).update(host_port=None)
    data = {"code": fault.code, "message": fault.message, "hint": fault.hint}
    ContainerEvent.objects.create(container=container, kind=ContainerEvent.Kind.FAILED, data=data)
    announce(container.tenant_id, "container", container.id, state=Container.State.FAILED)


@transaction.atomic
def removed(container: Container, *, actor: User | None) -> None:
    now = timezone.now()
    gone = Container.objects.filter(pk=container.pk, removed_at__isnull=True)
    if gone.update(state=Container.State.REMOVED, removed_at=now, address=None, paused=False):
        container.ports.filter(released_at__isnull=True).update(released_at=now)
        metering.release_all(container, now)
        ContainerEvent.objects.create(container=container, kind=ContainerEvent.Kind.REMOVED, actor=actor)
        announce(container.tenant_id, "container", container.id, state=Container.State.REMOVED)


def reconcile(statuses: Iterable[ContainerStatus], specs: Iterable[ContainerSpec] = ()) -> list[str]:
    """Truth of the whole node.  Returns ids that the engine has and no row knows: they are told, never touched."""
    found = {status.id: status for status in statuses}
    busy = Operation.objects.filter(state__in=Operation.OPEN, container__isnull=False).values("container")
    occupied = set(busy.values_list("container", flat=True))
    for spec in specs:
        if spec.id not in occupied:
            changed(spec)
    for status in found.values():
        observe(status, why="adopted")
    rows = Container.objects.filter(node=settings.NODE, state=Container.State.RUNNING).exclude(pk__in=busy)
    for container in rows.exclude(pk__in=list(found)):
        _lost(container)
    return sorted(set(found) - set(Container.objects.filter(pk__in=list(found)).values_list("pk", flat=True)))


@transaction.atomic
def _lost(container: Container) -> None:
    reason = "The container is gone from the node without a trace."
    Container.objects.filter(pk=container.pk).update(
        state=Container.State.FAILED, reason=reason, address=None, paused=False, finished_at=timezone.now()
    )
    _place(container, ())
    container.ports.filter(requested_port__isnull=True).update(host_port=None)
    metering.release_all(container, timezone.now())
    ContainerEvent.objects.create(container=container, kind=ContainerEvent.Kind.LOST)
    announce(container.tenant_id, "container", container.id, state=Container.State.FAILED)
