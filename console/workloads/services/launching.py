"""Launching: what is allowed, then intent and an operation in one transaction."""

from __future__ import annotations

from dataclasses import asdict

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from console.accounts.models import Role, Tenant, User
from console.accounts.services import audit, require
from console.core.live import announce
from console.metering.services import budgets
from console.operations import services as operations
from console.operations.models import Operation
from console.workloads.models import Attachment, Container, ContainerEvent, Mount, PublishedPort, Volume
from console.workloads.services import networks, quotas, volumes
from console.workloads.services.addresses import attachment
from console.workloads.services.checking import check, check_ports, words
from console.workloads.services.checking_places import networks_of, volumes_of
from console.workloads.services.requests import LaunchRequest, NetworkRequest
from runtime.api import DEFAULT_NETWORK
from runtime.image.recipe import Recipe, recipe
from runtime.image.reference import Reference


def launch(*, tenant: Tenant, actor: User, request: LaunchRequest, request_key: str) -> Operation:
    """The same ``request_key`` again is the same launch.  Raises Missing, NotAllowed, Invalid, Full; then nothing was written."""
    require(actor, tenant, Role.MEMBER)
    with transaction.atomic():
        quota = quotas.locked(tenant)
        earlier = Operation.objects.filter(tenant=tenant, request_key=request_key).first()
        if earlier is not None:
            return earlier
        for refused in check(tenant, request).values():
            raise refused
        quotas.admit_launch(tenant, quota, request)
        budgets.refuse_over(tenant, timezone.now())
        container = _create(tenant, actor, request)
        audit(
            "container.launch",
            actor=actor,
            tenant=tenant,
            target=container.id,
            name=container.name,
            image=container.image_reference,
            **_fixed(request),
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


def _fixed(request: LaunchRequest) -> dict[str, dict[str, list[str]]]:
    """For the audit line: network -> its fixed addresses there, if it has any."""
    asked = map(attachment, request.networks)
    found = {one.network: [address for address in (one.address, one.address6) if address] for one in asked}
    return {"addresses": fixed} if (fixed := {name: there for name, there in found.items() if there}) else {}


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
        labels=dict(request.labels),
        disk_bytes=request.disk_bytes,
        entrypoint=words(request.entrypoint, "entrypoint"),
        user=request.user,
        working_dir=request.working_dir,
        hostname=request.hostname,
        health_check=asdict(request.health) if request.health else None,
        read_only=request.read_only,
        init=request.init,
    )
    _take_ports(container, request)
    _mount(container, actor, request)
    _attach(container, request)
    return container


def _mount(container: Container, actor: User, request: LaunchRequest) -> None:
    """A volume that is made has an operation of its own, so it is made or told as failed whatever becomes of the launch."""
    rows: dict[str, Volume] = volumes_of(container.tenant, request)
    for one in request.mounts:
        if one.volume not in rows:
            rows[one.volume] = volumes.intend(container.tenant, actor, one.volume, one.size_bytes)
    Mount.objects.bulk_create(
        Mount(container=container, volume=rows[one.volume], path=one.path, read_only=one.read_only)
        for one in request.mounts
    )


def _attach(container: Container, request: LaunchRequest) -> None:
    wanted = request.networks or (NetworkRequest(DEFAULT_NETWORK),)
    rows = networks_of(container.tenant, request)
    for one in wanted:
        row = rows.get(one.network) or networks.default(container.tenant, container.node)
        asked = attachment(one)
        Attachment.objects.create(
            container=container, network=row, aliases=list(asked.aliases),
            requested_address=asked.address, requested_address6=asked.address6,
        )  # fmt: skip


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
        check_ports(container.tenant, request)
        raise
