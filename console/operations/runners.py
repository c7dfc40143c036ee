"""What a worker does for each kind of operation: the engine's verbs in order, then the truth into the rows.

Every runner may be run again after a crash at any point of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from console.metering import services as metering
from console.metering.collector import Collector, cgroup_version
from console.operations import engine as engines
from console.operations import furnishing, images
from console.operations.models import Operation
from console.workloads import services as workloads
from console.workloads.models import Container, Network
from runtime.api import DEFAULT_NETWORK, Attachment, ContainerSpec, ContainerStatus, Engine, Progress, State
from runtime.errors import NotFound, RuntimeFault

log = logging.getLogger(__name__)
Runner = Callable[[Operation, Engine, Progress], None]


def _container(operation: Operation) -> Container:
    if operation.container is None:
        raise NotFound("The container is gone.")
    return Container.objects.select_related("tenant", "registry").get(pk=operation.container_id)


def launch(operation: Operation, engine: Engine, progress: Progress) -> None:
    """Image, create, start, or what an earlier try has left to do.

    A container that was started is launched, whatever has become of it.  After a fault nothing is left in
    the engine.
    """
    container = _container(operation)
    try:
        status = _made_earlier(container, engine)
        if status is None:
            _create(container, engine, progress)
        if status is None or status.state is State.CREATED:
            status = engine.start(container.id, progress=progress)
    except Exception:
        _undo(container, engine)
        raise
    _started(operation, status, engine)


def _made_earlier(container: Container, engine: Engine) -> ContainerStatus | None:
    """What a try that was cut short made; one that it was already taking away is gone after this."""
    try:
        status = engine.settle(container.id)
    except NotFound:
        return None
    if status.state is State.REMOVING:
        engine.remove(container.id, force=True)
        return None
    return status


def _create(container: Container, engine: Engine, progress: Progress) -> None:
    if container.recipe:
        image = images.built_in(engine, container.recipe, progress)
    else:
        image = images.pulled(engine, container.tenant, container.image_reference, container.registry, progress)
    if container.image_digest != image.id:
        Container.objects.filter(pk=container.pk).update(image_digest=image.id)
        container.image_digest = image.id
    furnishing.furnish(container, engine)
    engine.create(workloads.spec(container), progress=progress)


def _undo(container: Container, engine: Engine) -> None:
    """Never hides why the launch failed; what cannot be removed now goes when the person removes or starts the container."""
    try:
        engine.remove(container.id, force=True)
    except RuntimeFault as fault:
        log.warning("what the failed launch of %s left could not be removed: %s", container.id, fault)


def start(operation: Operation, engine: Engine, progress: Progress) -> None:
    container = _container(operation)
    try:
        engine.inspect(container.id)
    except NotFound:
        if container.epoch:
            raise NotFound(
                "The node has lost this container and its data.", hint="Remove it and launch a new one."
            ) from None
        launch(operation, engine, progress)
    else:
        engine.settle(container.id)
        settle_bills(engine, container.id)  # the bill of one start is closed before the next begins
        _started(operation, engine.start(container.id, progress=progress), engine)


def _started(operation: Operation, status: ContainerStatus, engine: Engine) -> None:
    """The truth of a start, and the first reading of its epoch."""
    workloads.observe(status, actor=operation.actor)
    _tell_default(status, engine)
    take_reading(status.id, engine)


def _tell_default(status: ContainerStatus, engine: Engine) -> None:
    """Where the tenant's own network lies, which its first container has brought about."""
    row = Network.objects.filter(tenant=status.tenant, name=DEFAULT_NETWORK, removed_at__isnull=True, subnet="").first()
    if row is not None:
        workloads.network_made(row, engine.networks.inspect(status.tenant, DEFAULT_NETWORK))


def take_reading(id: str, engine: Engine) -> None:
    """Of an epoch that has just begun, or whose interfaces are others now."""
    collector = node_collector(engine)
    try:
        collector.collect([id])
        collector.deliver()
    except (OSError, RuntimeFault, DatabaseError) as fault:
        log.warning("a reading of %s: %s; the next one covers it", id, fault)


def stop(operation: Operation, engine: Engine, progress: Progress) -> None:
    container = _container(operation)
    workloads.observe(engine.stop(container.id, progress=progress), actor=operation.actor)
    settle_bills(engine, container.id)


def kill(operation: Operation, engine: Engine, _progress: Progress) -> None:
    container = _container(operation)
    engine.kill(container.id, str(operation.params.get("signal", "SIGKILL")))
    workloads.observe(engine.settle(container.id), actor=operation.actor)
    settle_bills(engine, container.id)


def restart(operation: Operation, engine: Engine, progress: Progress) -> None:
    container = _container(operation)
    engine.stop(container.id, progress=progress)
    settle_bills(engine, container.id)
    start(operation, engine, progress)


def remove(operation: Operation, engine: Engine, progress: Progress) -> None:
    container = _container(operation)
    engine.remove(container.id, force=True, progress=progress)
    settle_bills(engine, container.id)
    workloads.removed(container, actor=operation.actor)


def pause(operation: Operation, engine: Engine, _progress: Progress) -> None:
    workloads.observe(engine.controls.pause(_container(operation).id), actor=operation.actor)


def resume(operation: Operation, engine: Engine, _progress: Progress) -> None:
    workloads.observe(engine.controls.resume(_container(operation).id), actor=operation.actor)


def update(operation: Operation, engine: Engine, _progress: Progress) -> None:
    """The limits that were authorised; all others stay."""
    container, wanted = _container(operation), operation.params
    made = _made(container, engine)
    before = made or workloads.spec(container)
    limits = replace(
        before.limits,
        memory_bytes=int(wanted["memory_bytes"]), cpu_millis=int(wanted["cpu_millis"]), pids=int(wanted["pids"]),
    )  # fmt: skip
    if made:
        workloads.observe(engine.controls.update(container.id, limits), actor=operation.actor)
    workloads.changed(replace(before, limits=limits), actor=operation.actor)


def rename(operation: Operation, engine: Engine, _progress: Progress) -> None:
    container, name = _container(operation), str(operation.params["name"])
    made = _made(container, engine)
    if made:
        engine.controls.rename(container.id, name)
    workloads.changed(replace(made or workloads.spec(container), name=name), actor=operation.actor)


def connect(operation: Operation, engine: Engine, _progress: Progress) -> None:
    container = _container(operation)
    asked = operation.params
    place = Attachment(
        str(asked["network"]), asked.get("address"), asked.get("address6"), aliases=tuple(asked["aliases"])
    )
    made = _made(container, engine)
    if made is None:
        before = workloads.spec(container)
        networks = (*(before.networks or (Attachment(DEFAULT_NETWORK),)), place)
        workloads.changed(replace(before, networks=networks), actor=operation.actor)
        return
    furnishing.furnish_network(container.tenant, place.network, engine)
    _moved(engine, engine.networks.connect(container.id, place), operation)


def disconnect(operation: Operation, engine: Engine, _progress: Progress) -> None:
    container, network = _container(operation), str(operation.params["network"])
    made = _made(container, engine)
    if made is None:
        before = workloads.spec(container)
        left = tuple(one for one in before.networks if one.network != network)
        workloads.changed(replace(before, networks=left), actor=operation.actor)
        return
    _moved(engine, engine.networks.disconnect(container.id, network), operation)


def _moved(engine: Engine, status: ContainerStatus, operation: Operation) -> None:
    """And a reading: what an interface counted that is gone is in the spool from here on, whatever becomes of the node."""
    workloads.changed(engine.spec(status.id), actor=operation.actor)
    workloads.observe(status, actor=operation.actor)
    _tell_default(status, engine)
    if status.state is State.RUNNING:
        take_reading(status.id, engine)


def _made(container: Container, engine: Engine) -> ContainerSpec | None:
    """None: a launch that failed has left nothing but its row."""
    try:
        return engine.spec(container.id)
    except NotFound:
        if container.epoch:
            raise
        return None


def node_collector(engine: Engine) -> Collector:
    return Collector(engine, engines.home().state)


def settle_bills(engine: Engine, container: str | None = None) -> None:
    """What the spool has and then the final readings into the database, and only then forgotten by the node."""
    node_collector(engine).deliver()
    for reading in engine.final_readings(container):
        if metering.ingest_final(reading, cgroup=cgroup_version()):
            engine.acknowledge(reading)


def settle_all_bills(engine: Engine) -> None:
    """Of the whole node, and an end for what can have no final reading any more: a reboot took its cgroup, or somebody did."""
    as_of = timezone.now()
    node_collector(engine).settle_totals()
    found = engine.list()
    running = {one.id: one.epoch for one in found if one.state is State.RUNNING}
    damaged = {one.id for one in found if one.state is State.DAMAGED}
    settle_bills(engine)
    metering.close_lost(settings.NODE, running, as_of, damaged)
    metering.charge_allocations(as_of)


def build(operation: Operation, engine: Engine, progress: Progress) -> None:
    images.built_in(engine, str(operation.params["recipe"]), progress)


RUNNERS: dict[str, Runner] = {
    Operation.Kind.LAUNCH: launch,
    Operation.Kind.START: start,
    Operation.Kind.STOP: stop,
    Operation.Kind.KILL: kill,
    Operation.Kind.RESTART: restart,
    Operation.Kind.REMOVE: remove,
    Operation.Kind.BUILD: build,
    Operation.Kind.PAUSE: pause,
    Operation.Kind.RESUME: resume,
    Operation.Kind.UPDATE: update,
    Operation.Kind.RENAME: rename,
    Operation.Kind.CONNECT: connect,
    Operation.Kind.DISCONNECT: disconnect,
    Operation.Kind.CREATE_VOLUME: furnishing.create_volume,
    Operation.Kind.REMOVE_VOLUME: furnishing.remove_volume,
    Operation.Kind.CREATE_NETWORK: furnishing.create_network,
    Operation.Kind.REMOVE_NETWORK: furnishing.remove_network,
}
