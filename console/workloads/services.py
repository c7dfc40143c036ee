"""Launching and operating containers: what is allowed, then intent and an operation in one transaction; and truth coming back."""

from __future__ import annotations

import datetime as dt
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from console.accounts.models import Quota, Role, Tenant, User
from console.accounts.services import audit, require
from console.catalog.models import Registry
from console.core.errors import Full, Invalid, person
from console.core.live import announce
from console.metering import services as metering
from console.metering.services import budgets
from console.operations import services as operations
from console.operations.models import Operation
from console.workloads import restarts
from console.workloads.models import Container, ContainerEvent, PublishedPort
from runtime.api import (
    RESTART_MODES,
    ContainerSpec,
    ContainerStatus,
    Limits,
    Port,
    RestartMode,
    RestartPolicy,
    State,
)
from runtime.errors import InvalidSpec, RuntimeFault
from runtime.image.recipe import Recipe, recipe
from runtime.image.reference import BUILT_IN, Reference
from runtime.validation import (
    ENVIRONMENT_NAME,
    LEAST_CPU_MILLIS,
    LEAST_MEMORY,
    MOST_PIDS,
    NAME,
    node_memory,
)
from runtime.validation_life import MOST_RETRIES

MIB = 2**20
LIVE = (Container.State.PENDING, Container.State.RUNNING)


@dataclass(frozen=True, slots=True)
class PortRequest:
    container_port: int
    host_port: int | None = None
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What the form asks for.  Exactly one of ``recipe`` (a slug) and ``image`` (a reference) is set."""

    name: str
    recipe: str = ""
    image: str = ""
    registry: Registry | None = None
    command: str = ""
    """As typed; split as a shell splits words."""
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortRequest, ...] = ()
    memory_bytes: int = 256 * MIB
    cpu_millis: int = 1000
    pids: int = 256
    terminal: bool = False
    restart: str = "no"
    restart_retries: int | None = None
    """With ``on-failure`` only; None: without end."""


# ------------------------------------------------------------------------------------------------ launch


def check(tenant: Tenant, request: LaunchRequest) -> dict[str, str]:
    """Field -> sentence for everything that is wrong with the request itself; quotas are checked by launch."""
    problems: dict[str, str] = {}
    for test in (
        _check_name,
        _check_image,
        _check_command,
        _check_environment,
        _check_ports,
        _check_memory,
        _check_cpu,
        _check_pids,
        _check_restart,
    ):
        try:
            test(tenant, request)
        except Invalid as refused:
            problems[refused.field] = refused.message
    return problems


def _check_name(tenant: Tenant, request: LaunchRequest) -> None:
    if not NAME.fullmatch(request.name):
        raise Invalid(
            "name", _("Use up to 63 lower-case letters, digits and hyphens, a letter or digit first and last.")
        )
    if Container.objects.of(tenant).filter(name=request.name, removed_at__isnull=True).exists():
        raise Invalid("name", _("The name %(name)s is taken: choose another.") % {"name": request.name})


def _check_image(_tenant: Tenant, request: LaunchRequest) -> None:
    if request.recipe:
        if recipe(request.recipe) is None:
            raise Invalid("image", _("There is no such application in the catalog."))
        return
    try:
        built_in = Reference.parse(request.image).registry == BUILT_IN
    except InvalidSpec as fault:
        said = person(fault)
        raise Invalid("image", f"{said.message} {said.hint}") from None
    if built_in:
        raise Invalid("image", _("Built-in applications are launched from the catalog."))


def words(command: str) -> list[str]:
    """Raises Invalid, field ``command``."""
    if "\0" in command:
        raise Invalid("command", _("A zero byte cannot be part of a command."))
    try:
        return shlex.split(command)
    except ValueError:
        raise Invalid("command", _("A quotation mark is not closed.")) from None


def _check_command(_tenant: Tenant, request: LaunchRequest) -> None:
    words(request.command)


def _check_environment(_tenant: Tenant, request: LaunchRequest) -> None:
    for name, value in request.environment.items():
        if not ENVIRONMENT_NAME.fullmatch(name):
            raise Invalid(
                "environment",
                _("%(name)s is not a name for a variable: use letters, digits and underscores.") % {"name": name},
            )
        if "\0" in value:
            raise Invalid("environment", _("The value of %(name)s has a zero byte.") % {"name": name})
    known = recipe(request.recipe)
    for variable in known.environment if known else ():
        if variable.required and not request.environment.get(variable.name):
            raise Invalid("environment", _("%(name)s is required.") % {"name": variable.name})


def _check_ports(_tenant: Tenant, request: LaunchRequest) -> None:
    seen: set[tuple[str, int]] = set()
    for port in request.ports:
        if port.protocol not in {"tcp", "udp"}:
            raise Invalid("ports", _("The protocol is neither tcp nor udp."))
        for number in (port.container_port, port.host_port or 1):
            if not 1 <= number <= 65535:
                raise Invalid("ports", _("%(port)d is not a port: they go from 1 to 65535.") % {"port": number})
        if port.host_port is None:
            continue
        if (port.protocol, port.host_port) in seen or _port_owner(port) is not None:
            raise Invalid(
                "ports",
                _("Port %(port)d of the node is taken: choose another, or leave it empty.") % {"port": port.host_port},
            )
        seen.add((port.protocol, port.host_port))


def _port_owner(port: PortRequest) -> PublishedPort | None:
    taken = PublishedPort.objects.filter(protocol=port.protocol, host_port=port.host_port, released_at__isnull=True)
    return taken.first()


def _check_memory(_tenant: Tenant, request: LaunchRequest) -> None:
    known = recipe(request.recipe)
    least = max(LEAST_MEMORY, known.memory_needed if known else 0)
    if request.memory_bytes < least:
        raise Invalid("memory", _("This image needs at least %(mib)d MiB of memory.") % {"mib": least // MIB})
    if request.memory_bytes > node_memory():
        raise Invalid("memory", _("The node has only %(mib)d MiB of memory.") % {"mib": node_memory() // MIB})


def _check_cpu(_tenant: Tenant, request: LaunchRequest) -> None:
    cpus = os.cpu_count() or 1
    if not LEAST_CPU_MILLIS <= request.cpu_millis <= cpus * 1000:
        raise Invalid("cpu", _("Choose from 0.01 to %(cpus)d vCPU: the node has no more.") % {"cpus": cpus})


def _check_pids(_tenant: Tenant, request: LaunchRequest) -> None:
    if not 1 <= request.pids <= MOST_PIDS:
        raise Invalid("pids", _("Choose from 1 to %(most)d processes.") % {"most": MOST_PIDS})


def _check_restart(_tenant: Tenant, request: LaunchRequest) -> None:
    if request.restart not in Container.RestartPolicy.values:
        raise Invalid("restart", _("Choose one of the restart policies."))
    if request.restart_retries is None:
        return
    if request.restart != "on-failure":
        raise Invalid("restart", _("Only the policy for failures counts its retries: leave them empty."))
    if not 1 <= request.restart_retries <= MOST_RETRIES:
        raise Invalid("restart", _("Choose from 1 to %(most)d retries, or leave it empty.") % {"most": MOST_RETRIES})


def launch(*, tenant: Tenant, actor: User, request: LaunchRequest, request_key: str) -> Operation:
    """The same ``request_key`` again is the same launch.  Raises Missing, NotAllowed, Invalid, Full; then nothing was written."""
    require(actor, tenant, Role.MEMBER)
    with transaction.atomic():
        quota = Quota.objects.select_for_update().get_or_create(tenant=tenant)[0]  # one launch of a tenant at a time
        earlier = Operation.objects.filter(tenant=tenant, request_key=request_key).first()
        if earlier is not None:
            return earlier
        for name, problem in check(tenant, request).items():
            raise Invalid(name, problem)
        _check_quota(tenant, quota, request)
        budgets.refuse_over(tenant, timezone.now())
        container = _create(tenant, actor, request)
        audit(
            "container.launch",
            actor=actor,
            tenant=tenant,
            target=container.id,
            name=container.name,
            image=container.image_reference,
        )
        ContainerEvent.objects.create(container=container, kind=ContainerEvent.Kind.CREATED, actor=actor)
        announce(tenant.id, "container", container.id, state=container.state)
        return operations.submit(
            tenant=tenant,
            actor=actor,
            kind=Operation.Kind.LAUNCH,
            node=container.node,
            container=container,
            request_key=request_key,
        )


def _create(tenant: Tenant, actor: User, request: LaunchRequest) -> Container:
    known: Recipe | None = recipe(request.recipe)
    container = Container.objects.create(
        tenant=tenant,
        node=settings.NODE,
        name=request.name,
        created_by=actor,
        recipe=request.recipe,
        registry=request.registry,
        image_reference=str(known.reference) if known else str(Reference.parse(request.image)),
        command=words(request.command),
        environment=dict(request.environment),
        memory_bytes=request.memory_bytes,
        cpu_millis=request.cpu_millis,
        pids=request.pids,
        terminal=request.terminal,
        restart_policy=request.restart,
        restart_retries=request.restart_retries,
    )
    _take_ports(container, request)
    return container


def _take_ports(container: Container, request: LaunchRequest) -> None:
    """The index on ports that are in use decides between two tenants at once.  Raises Invalid for the later."""
    rows = [
        PublishedPort(
            container=container,
            container_port=port.container_port,
            protocol=port.protocol,
            host_port=port.host_port,
            requested_port=port.host_port,
        )
        for port in request.ports
    ]
    try:
        with transaction.atomic():
            PublishedPort.objects.bulk_create(rows)
    except IntegrityError:
        _check_ports(container.tenant, request)
        raise


def _check_quota(tenant: Tenant, quota: Quota, request: LaunchRequest) -> None:
    """Every container that is not removed counts, running or not: it can be started at any time."""
    mine = Container.objects.of(tenant).filter(removed_at__isnull=True)
    memory = sum(mine.values_list("memory_bytes", flat=True)) + request.memory_bytes
    cpu = sum(mine.values_list("cpu_millis", flat=True)) + request.cpu_millis
    ports = PublishedPort.objects.filter(container__in=mine, released_at__isnull=True).count() + len(request.ports)
    if mine.count() + 1 > quota.containers:
        raise Full(
            _("The tenant's quota of %(most)d containers is used up: remove one first.") % {"most": quota.containers},
            field="name",
        )
    if memory > quota.memory_bytes:
        left = max(0, quota.memory_bytes - memory + request.memory_bytes) // MIB
        raise Full(_("Only %(mib)d MiB of the tenant's memory quota are left.") % {"mib": left}, field="memory")
    if cpu > quota.cpu_millis:
        left_cpu = max(0, quota.cpu_millis - cpu + request.cpu_millis) / 1000
        raise Full(_("Only %(cpu).2f vCPU of the tenant's quota are left.") % {"cpu": left_cpu}, field="cpu")
    if ports > quota.published_ports:
        raise Full(
            _("The tenant's quota of %(most)d published ports is used up.") % {"most": quota.published_ports},
            field="ports",
        )


# ------------------------------------------------------------------------------------------------ act

WANTED = {"start": "running", "restart": "running", "stop": "stopped", "kill": "stopped", "remove": "removed"}
VERBS = {verb: Operation.Kind(verb) for verb in WANTED}


def act(*, container: Container, actor: User, verb: str, request_key: str, **params: Any) -> Operation:
    """Start, stop, restart, kill (``signal=``) or remove.  Raises Missing, NotAllowed, Invalid."""
    require(actor, container.tenant, Role.MEMBER)
    if verb not in VERBS:
        raise Invalid("verb", _("There is no such action."))
    with transaction.atomic():
        now = Container.objects.select_for_update().get(pk=container.pk)  # what the caller holds may be old
        earlier = operations.earlier(container.tenant, request_key, kind=VERBS[verb], container=container)
        if earlier is not None:
            return earlier
        if now.removed_at is not None:
            raise Invalid("", _("The container was removed."))
        Container.objects.filter(pk=container.pk).update(wanted=WANTED[verb])
        if verb in {"stop", "kill"}:
            ContainerEvent.objects.create(container=container, kind=ContainerEvent.Kind.STOPPING, actor=actor)
        if verb == "remove":
            operations.supersede(container)
        audit(f"container.{verb}", actor=actor, tenant=container.tenant, target=container.id, name=container.name)
        return operations.submit(
            tenant=container.tenant, actor=actor, kind=VERBS[verb], node=container.node, container=container,
            params=params, request_key=request_key,
        )  # fmt: skip


def spec(container: Container) -> ContainerSpec:
    """What was authorised, for the engine, which validates it again."""
    return ContainerSpec(
        id=container.id,
        tenant=container.tenant_id,
        name=container.name,
        image=container.image_digest,
        command=tuple(container.command) or None,
        env=dict(container.environment),
        limits=Limits(memory_bytes=container.memory_bytes, cpu_millis=container.cpu_millis, pids=container.pids),
        ports=tuple(
            Port(
                port.container_port, "udp" if port.protocol == "udp" else "tcp", port.requested_port, port.host_address
            )
            for port in container.ports.order_by("pk")
        ),
        terminal=container.terminal,
        restart=RestartPolicy(_mode(container.restart_policy), container.restart_retries),
    )


def _mode(policy: str) -> RestartMode:
    return next(mode for mode in RESTART_MODES if mode == policy)


# ------------------------------------------------------------------------------------------------ truth


def _when(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


@transaction.atomic
def observe(status: ContainerStatus, *, actor: User | None = None, why: str = "") -> None:
    """What the engine says, into the row.  Idempotent; a report of an earlier start never overwrites a later one."""
    container = Container.objects.select_for_update().filter(pk=status.id, removed_at__isnull=True).first()
    if container is None or status.epoch < container.epoch or status.state not in {State.RUNNING, State.EXITED}:
        return
    state = Container.State.RUNNING if status.state is State.RUNNING else Container.State.EXITED
    before = (container.state, container.epoch, container.exit_code, container.restart_at, container.health)
    if before == (state, status.epoch, status.exit_code, _when(status.restart_at), status.health):
        return
    if (
        status.epoch == container.epoch
        and container.state == Container.State.EXITED
        and state == Container.State.RUNNING
    ):
        return  # a start that has ended by now; the report of its beginning came late
    new_start = status.epoch > container.epoch
    ended_before = before[:2] == (Container.State.EXITED, status.epoch)
    health_before = "" if new_start else container.health
    container.state = state
    container.restart_at = _when(status.restart_at)
    container.health = status.health
    container.epoch = status.epoch
    container.address = status.address
    container.exit_code = status.exit_code
    container.oom_killed = status.oom_killed
    container.reason = status.reason
    container.started_at = _when(status.started_at)
    container.finished_at = _when(status.finished_at)
    container.save()
    if state == Container.State.RUNNING:
        _publish(container, status.ports)
    if new_start:
        metering.begin(status, container)
        ContainerEvent.objects.create(container=container, kind=_start_kind(status, why), actor=actor)
    if state == Container.State.EXITED:
        if not ended_before:
            _exited(container, actor)
        restarts.waits(container, status)
    restarts.health_changed(container, health_before, status)
    announce(container.tenant_id, "container", container.id, state=container.state)


def _start_kind(status: ContainerStatus, why: str) -> ContainerEvent.Kind:
    if status.restarts:
        return ContainerEvent.Kind.RESTARTED
    return ContainerEvent.Kind.ADOPTED if why == "adopted" else ContainerEvent.Kind.STARTED


def _publish(container: Container, ports: Iterable[Port]) -> None:
    """A stopped container that wanted the same port learns at its next start that it is taken."""
    for row, port in zip(container.ports.order_by("pk"), ports, strict=False):
        if row.host_port != port.host_port:
            same = {"protocol": row.protocol, "host_address": row.host_address, "host_port": port.host_port}
            PublishedPort.objects.filter(**same, released_at__isnull=True).update(host_port=None)
            PublishedPort.objects.filter(pk=row.pk).update(host_port=port.host_port)
    if container.started_at is not None:
        metering.hold_ports(container, container.ports.filter(host_port__isnull=False).count(), container.started_at)


def _exited(container: Container, actor: User | None) -> None:
    """A port that the engine chose is free again; one that the person chose stays the container's."""
    container.ports.filter(requested_port__isnull=True).update(host_port=None)
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
    container.ports.filter(requested_port__isnull=True).update(host_port=None)
    data = {"code": fault.code, "message": fault.message, "hint": fault.hint}
    ContainerEvent.objects.create(container=container, kind=ContainerEvent.Kind.FAILED, data=data)
    announce(container.tenant_id, "container", container.id, state=Container.State.FAILED)


@transaction.atomic
def removed(container: Container, *, actor: User | None) -> None:
    now = timezone.now()
    gone = Container.objects.filter(pk=container.pk, removed_at__isnull=True)
    if gone.update(state=Container.State.REMOVED, removed_at=now, address=None):
        container.ports.filter(released_at__isnull=True).update(released_at=now)
        metering.release_ports(container, now)
        ContainerEvent.objects.create(container=container, kind=ContainerEvent.Kind.REMOVED, actor=actor)
        announce(container.tenant_id, "container", container.id, state=Container.State.REMOVED)


def reconcile(statuses: Iterable[ContainerStatus]) -> list[str]:
    """Truth of the whole node.  Returns ids that the engine has and no row knows: they are told, never touched."""
    found = {status.id: status for status in statuses}
    for status in found.values():
        observe(status, why="adopted")
    busy = Operation.objects.filter(state__in=Operation.OPEN).values("container")
    rows = Container.objects.filter(node=settings.NODE, state=Container.State.RUNNING).exclude(pk__in=busy)
    for container in rows.exclude(pk__in=list(found)):
        _lost(container)
    return sorted(set(found) - set(Container.objects.filter(pk__in=list(found)).values_list("pk", flat=True)))


@transaction.atomic
def _lost(container: Container) -> None:
    reason = "The container is gone from the node without a trace."
    Container.objects.filter(pk=container.pk).update(
        state=Container.State.FAILED, reason=reason, address=None, finished_at=timezone.now()
    )
    container.ports.filter(requested_port__isnull=True).update(host_port=None)
    metering.release_ports(container, timezone.now())
    ContainerEvent.objects.create(container=container, kind=ContainerEvent.Kind.LOST)
    announce(container.tenant_id, "container", container.id, state=Container.State.FAILED)


SUGGESTED = re.compile(r"[^a-z0-9-]+")


def suggest_name(tenant: Tenant, base: str) -> str:
    """A free name like ``nginx-2``."""
    stem = SUGGESTED.sub("-", base.lower()).strip("-")[:40] or "container"
    taken = set(
        Container.objects.of(tenant)
        .filter(removed_at__isnull=True, name__startswith=stem)
        .values_list("name", flat=True)
    )
    return next(
        name for name in (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))) if name not in taken
    )
