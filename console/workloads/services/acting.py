"""What is done to a container that is there: verbs, other limits, another name, other networks.  Intent and an operation in one transaction.

Other limits, another name and other networks are in the operation's ``params`` until the engine has them; quotas and names count them from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from console.accounts.models import Role, User
from console.accounts.services import audit, require
from console.core.errors import Invalid
from console.metering.services import budgets
from console.operations import services as operations
from console.operations.models import Operation
from console.workloads.models import Container, ContainerEvent
from console.workloads.services import quotas
from console.workloads.services.addresses import attachment
from console.workloads.services.checking import check_limits
from console.workloads.services.checking_places import check_connection, check_disconnection
from console.workloads.services.naming import check_free
from console.workloads.services.requests import LimitsRequest, NetworkRequest

WANTED = {"start": "running", "restart": "running", "stop": "stopped", "kill": "stopped", "remove": "removed"}
STARTING = ("start", "restart")
FREEZING = ("pause", "resume")
"""They change nothing of what is wanted."""
VERBS = {verb: Operation.Kind(verb) for verb in (*WANTED, *FREEZING)}


def act(*, container: Container, actor: User, verb: str, request_key: str, **params: Any) -> Operation:
    """Start, stop, restart, kill (``signal=``), pause, resume or remove.  Raises Missing, NotAllowed, Invalid.

    Full: what does not run would be started, and the tenant's budget is used up (``budgets.refuse_over``).
    """
    require(actor, container.tenant, Role.MEMBER)
    if verb not in VERBS:
        raise Invalid("verb", _("There is no such action."))

    def prepare(now: Container) -> None:
        if verb in FREEZING and now.state != Container.State.RUNNING:
            raise Invalid("", _("The container does not run: start it first."))
        if verb in STARTING and now.state != Container.State.RUNNING:
            budgets.refuse_over(now.tenant, timezone.now())
        if verb in WANTED:
            Container.objects.filter(pk=now.pk).update(wanted=WANTED[verb])
        if verb in {"stop", "kill"}:
            ContainerEvent.objects.create(container=now, kind=ContainerEvent.Kind.STOPPING, actor=actor)
        if verb == "remove":
            operations.supersede(now)
        audit(f"container.{verb}", actor=actor, tenant=now.tenant, target=now.id, name=now.name)

    with transaction.atomic():
        return _submit(container, actor, VERBS[verb], request_key, params, prepare)


def update_limits(*, container: Container, actor: User, limits: LimitsRequest, request_key: str) -> Operation:
    """Raises Missing, NotAllowed, Invalid (``memory``, ``cpu``, ``pids``), Full; then nothing has changed."""
    require(actor, container.tenant, Role.MEMBER)
    with transaction.atomic():
        quota = quotas.locked(container.tenant)

        def prepare(now: Container) -> None:
            before = LimitsRequest(now.memory_bytes, now.cpu_millis, now.pids)
            if limits == before:
                raise Invalid("", _("These are the limits that it has: change one."))
            check_limits(now, limits)
            quotas.admit_limits(now.tenant, quota, now, limits)
            said = {"before": asdict(before), "after": asdict(limits)}
            audit("container.update", actor=actor, tenant=now.tenant, target=now.id, name=now.name, **said)

        return _submit(container, actor, Operation.Kind.UPDATE, request_key, asdict(limits), prepare)


def rename(*, container: Container, actor: User, name: str, request_key: str) -> Operation:
    """Raises Missing, NotAllowed, Invalid (``name``)."""
    require(actor, container.tenant, Role.MEMBER)
    with transaction.atomic():
        quotas.locked(container.tenant)  # launches and renames of a tenant find their names one after the other

        def prepare(now: Container) -> None:
            check_free(now.tenant, name)
            audit("container.rename", actor=actor, tenant=now.tenant, target=now.id, name=name, before=now.name)

        return _submit(container, actor, Operation.Kind.RENAME, request_key, {"name": name}, prepare)


def connect(*, container: Container, actor: User, asked: NetworkRequest, request_key: str) -> Operation:
    """Raises Missing, NotAllowed, Invalid (``network``, ``aliases``, ``address``, ``address6``)."""
    require(actor, container.tenant, Role.MEMBER)
    with transaction.atomic():
        quotas.locked(container.tenant)  # nobody removes the network meanwhile, or takes the address
        params = asdict(attachment(asked))
        said = {name: value for name, value in params.items() if value is not None}

        def prepare(now: Container) -> None:
            check_connection(now, asked)
            audit("container.connect", actor=actor, tenant=now.tenant, target=now.id, name=now.name, **said)

        return _submit(container, actor, Operation.Kind.CONNECT, request_key, params, prepare)


def disconnect(*, container: Container, actor: User, network: str, request_key: str) -> Operation:
    """Raises Missing, NotAllowed, Invalid (``network``)."""
    require(actor, container.tenant, Role.MEMBER)
    with transaction.atomic():

        def prepare(now: Container) -> None:
            check_disconnection(now, network)
            audit("container.disconnect", actor=actor, tenant=now.tenant, target=now.id, name=now.name, network=network)

        return _submit(container, actor, Operation.Kind.DISCONNECT, request_key, {"network": network}, prepare)


def _submit(
    container: Container,
    actor: User,
    kind: Operation.Kind,
    request_key: str,
    params: dict[str, Any],
    prepare: Callable[[Container], None],
) -> Operation:
    """``prepare`` is called with the container as it is now, unless the same form was sent before; what it raises ends it all."""
    now = Container.objects.select_for_update(of=("self",), no_key=True).select_related("tenant").get(pk=container.pk)
    earlier = operations.earlier(now.tenant, request_key, kind=kind, container=now)
    if earlier is not None:
        return earlier
    if now.removed_at is not None:
        raise Invalid("", _("The container was removed."))
    prepare(now)
    return operations.submit(
        tenant=now.tenant, actor=actor, kind=kind, node=now.node, container=now, params=params, request_key=request_key
    )
