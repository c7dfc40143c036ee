"""The life of an operation: submitted, claimed under a lease, finished once, or cancelled."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThan
from django.utils import timezone
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from console.accounts.models import Role, Tenant, User
from console.accounts.services import audit, require, require_admin
from console.celery import app
from console.core.errors import Invalid
from console.core.live import announce
from console.operations.models import Operation
from console.workloads.models import Container, Network, Volume
from runtime.api import Step
from runtime.errors import Cancelled, EngineFault, RuntimeFault

log = logging.getLogger(__name__)
LEASE = timedelta(seconds=15)
OF_A_TENANT, LONG_OF_A_TENANT = 6, 4
"""Operations of one tenant that are at work on a node at once, and of those that may take long, as a pull of a registry that answers slowly on
purpose does for an hour.  A worker has 16 hands for all tenants, and for what beat asks of it.
"""


def submit(
    *,
    tenant: Tenant | None,
    actor: User | None,
    kind: Operation.Kind,
    node: str,
    container: Container | None = None,
    volume: Volume | None = None,
    network: Network | None = None,
    params: dict[str, Any] | None = None,
    request_key: str,
) -> Operation:
    """Inside the caller's transaction.  The same key again is the same operation; for another thing it is refused.

    One that finds another at work on its container waits for its end.  Raises Invalid when one waits already, or does the same; on a
    volume or a network when another is open.
    """
    subject = {"container": container, "volume": volume, "network": network}
    wanted = {"kind": kind, "node": node, **subject, "params": params or {}}
    if container is not None and _open_on(container).filter(kind=kind).exclude(request_key=request_key).exists():
        raise Invalid("", _("This is being done already."))
    try:
        with transaction.atomic():
            operation = Operation.objects.create(tenant=tenant, actor=actor, request_key=request_key, **wanted)
    except IntegrityError as error:
        return _existing(tenant, request_key, wanted, error)
    transaction.on_commit(partial(ring, operation.id, node), robust=True)
    _announce(operation, Operation.State.QUEUED)
    return operation


def _existing(tenant: Tenant | None, key: str, wanted: dict[str, Any], error: IntegrityError) -> Operation:
    found = earlier(tenant, key, **wanted)
    if found is None:
        if wanted["container"] is None:
            raise Invalid("", _("Another operation on it is not finished yet: wait for its end.")) from error
        raise Invalid("", _("Another operation on this container is not finished yet.")) from error
    return found


def _open_on(container: Container) -> QuerySet[Operation]:
    return Operation.objects.filter(container=container, state__in=Operation.OPEN)


def earlier(tenant: Tenant | None, request_key: str, **wanted: Any) -> Operation | None:
    """What the same form began already.  Raises Invalid when it was something else than ``wanted``, fields of the operation."""
    found = Operation.objects.filter(tenant=tenant, request_key=request_key).first()
    if found is not None and any(getattr(found, name) != value for name, value in wanted.items()):
        raise Invalid("request_key", _("This form was already used for something else: load the page again."))
    return found


def ring(id: str, node: str) -> None:
    """Tell the node's queue.  With the broker down the operation stays queued, and the sweep rings later."""
    try:
        app.send_task("console.operations.tasks.run", kwargs={"operation": id}, queue=f"node.{node}", retry=False)
    except (OperationalError, OSError) as error:
        log.warning("the broker did not take operation %s; the sweep will ring: %r", id, error)
        return
    Operation.objects.filter(pk=id).update(rung_at=timezone.now())


def claim(id: str, worker: str) -> Operation | None:
    """One conditional UPDATE, so two workers never hold the same operation, and none while another runs on its container.

    Nor what is more than its tenant's share: an end rings for it (:func:`_ended`).
    """
    asked = Operation.objects.filter(pk=id).only("tenant_id", "kind", "node").first()
    if asked is None:
        return None
    with transaction.atomic():
        if asked.tenant_id is not None:
            Tenant.objects.select_for_update(no_key=True).filter(pk=asked.tenant_id).first()
        return _claimed(asked, worker)


def _claimed(asked: Operation, worker: str) -> Operation | None:
    id, now = asked.pk, timezone.now()
    before = Operation.objects.filter(container=OuterRef("container"), state=Operation.State.RUNNING)
    begin = Q(state=Operation.State.QUEUED) & ~Exists(before) & _within_share(asked, now)
    free = begin | Q(state=Operation.State.RUNNING, lease_until__lt=now)
    claimed = Operation.objects.filter(free, pk=id, attempts__lt=Operation.MAX_ATTEMPTS).update(
        state=Operation.State.RUNNING,
        worker=worker,
        lease_until=now + LEASE,
        attempts=F("attempts") + 1,
        started_at=now,
    )
    return Operation.objects.get(pk=id) if claimed else None


def _within_share(asked: Operation, now: datetime) -> Q:
    """Part of the UPDATE, so that many that come at once see each other.  What was cancelled while it waited ends in a moment."""
    if asked.tenant_id is None:
        return Q()
    here = Operation.objects.filter(
        tenant=asked.tenant_id, node=asked.node, state=Operation.State.RUNNING, lease_until__gte=now
    ).order_by()
    share = Q(LessThan(_count(here), OF_A_TENANT))
    if asked.kind in Operation.CAN_CANCEL:
        share &= Q(LessThan(_count(here.filter(kind__in=Operation.CAN_CANCEL)), LONG_OF_A_TENANT))
    return share | Q(cancelled_at__isnull=False)


def _count(rows: QuerySet[Operation]) -> Coalesce:
    return Coalesce(Subquery(rows.values("tenant").annotate(n=Count("pk")).values("n")), 0)


def renew(id: str, worker: str) -> bool:
    """False: the lease is another's by now."""
    mine = Operation.objects.filter(pk=id, worker=worker, state=Operation.State.RUNNING)
    return bool(mine.update(lease_until=timezone.now() + LEASE))


# ------------------------------------------------------------------------------------------------ while it runs


def report(operation: Operation, step: Step) -> bool:
    """How far it is.  False: another worker has taken it over."""
    fields = {"stage": step.stage, "done": step.done, "total": step.total, "detail": step.detail[:200]}
    held = bool(_held(operation).update(**fields))
    if held:
        _announce(operation, Operation.State.RUNNING, progress=fields)
    return held


def _held(operation: Operation) -> QuerySet[Operation]:
    """The operation, as long as this worker's claim still counts."""
    return Operation.objects.filter(pk=operation.pk, worker=operation.worker, state=Operation.State.RUNNING)


def _announce(operation: Operation, state: str, **fields: Any) -> None:
    announce(operation.tenant_id, "operation", operation.id, state=state, container=operation.container_id, **fields)


def succeed(operation: Operation) -> bool:
    """False: another worker has taken it over; its outcome counts."""
    done = _held(operation).update(
        state=Operation.State.SUCCEEDED, finished_at=timezone.now(), lease_until=None, stage="", detail=""
    )
    if done:
        _ended(operation, Operation.State.SUCCEEDED)
    return bool(done)


def fail(operation: Operation, fault: RuntimeFault) -> bool:
    """The sentence is kept in English with its code and data; pages translate it.  A fault of class Cancelled is no failure."""
    state = Operation.State.CANCELLED if isinstance(fault, Cancelled) else Operation.State.FAILED
    done = _held(operation).update(
        state=state,
        finished_at=timezone.now(),
        lease_until=None,
        error_code=fault.code,
        error_message=fault.message,
        error_hint=fault.hint,
        error_field=fault.field,
        error_data=fault.data,
    )
    if done:
        _ended(operation, state)
    return bool(done)


def _ended(operation: Operation, state: str) -> None:
    """What waited for its end, on the same container or for its tenant's share, is rung for now."""
    _announce(operation, state)
    queued = Operation.objects.filter(state=Operation.State.QUEUED).order_by("created_at").values_list("id", "node")
    waiting: dict[str, str] = {}
    if operation.container_id is not None:
        waiting |= dict(queued.filter(container=operation.container_id))
    if operation.tenant_id is not None:
        waiting |= dict(queued.filter(tenant=operation.tenant_id)[:OF_A_TENANT])
    for id, node in waiting.items():
        transaction.on_commit(partial(ring, id, node), robust=True)


# ------------------------------------------------------------------------------------------------ cancel


def cancel(operation: Operation, *, actor: User) -> None:
    """It ends at its next step, with nothing half done left.  What is nobody's, the catalog's building, is the admins' to cancel.

    Raises Missing, NotAllowed, and Invalid for one that has ended or whose kind is never left half way.
    """
    if operation.tenant is None:
        require_admin(actor)
    else:
        require(actor, operation.tenant, Role.MEMBER)
    if operation.kind not in Operation.CAN_CANCEL:
        raise Invalid("", _("This cannot be cancelled: it is done in a moment."))
    with transaction.atomic():
        mine = Operation.objects.filter(pk=operation.pk, state__in=Operation.OPEN)
        if not mine.update(cancelled_at=timezone.now()):
            raise Invalid("", _("This has ended already."))
        audit("operation.cancel", actor=actor, tenant=operation.tenant, target=operation.id, kind=operation.kind)
        _announce(operation, operation.state)


def supersede(container: Container) -> None:
    """The container is to be removed: what waits never begins, and a launch ends at its next step.  In the caller's transaction."""
    now = timezone.now()
    for waiting in _open_on(container).filter(state=Operation.State.QUEUED):
        if Operation.objects.filter(pk=waiting.pk, state=Operation.State.QUEUED).update(
            state=Operation.State.CANCELLED, cancelled_at=now, finished_at=now
        ):
            _announce(waiting, Operation.State.CANCELLED)
    running = _open_on(container).filter(state=Operation.State.RUNNING, kind__in=Operation.CAN_CANCEL)
    running.filter(cancelled_at=None).update(cancelled_at=now)


def is_cancelled(operation: Operation) -> bool:
    return Operation.objects.filter(pk=operation.pk, cancelled_at__isnull=False).exists()


# ------------------------------------------------------------------------------------------------ what went wrong

UNCLAIMED_AFTER = timedelta(seconds=5)


def hopeless() -> QuerySet[Operation]:
    """What was tried too often, and is nobody's any more."""
    return Operation.objects.filter(
        state=Operation.State.RUNNING, lease_until__lt=timezone.now(), attempts__gte=Operation.MAX_ATTEMPTS
    )


def sweep() -> int:
    """Ring again for what nobody claimed or whose worker is gone, the longest quiet first: hundreds that wait for their tenant's share
    keep no other's from being rung for.  Returns how many.
    """
    now = timezone.now()
    lost = Q(state=Operation.State.RUNNING, lease_until__lt=now, attempts__lt=Operation.MAX_ATTEMPTS)
    quiet = Q(rung_at__isnull=True, created_at__lt=now - UNCLAIMED_AFTER) | Q(rung_at__lt=now - UNCLAIMED_AFTER)
    waiting = Operation.objects.filter(Q(state=Operation.State.QUEUED) & quiet | lost & quiet)
    count = 0
    longest_quiet = waiting.order_by(F("rung_at").asc(nulls_first=True), "created_at")
    for id, node in longest_quiet.values_list("id", "node")[:200]:
        ring(id, node)
        count += 1
    return count


def given_up(operation: Operation) -> RuntimeFault:
    return EngineFault(
        "The worker was lost again and again while it worked on this.",
        hint="Look at the node's log, then try again.",
        attempts=operation.attempts,
    )


def release_leases(node: str, worker: str) -> int:
    """At a worker's start: what an earlier worker of this node held can be claimed at once, for there is one worker a node."""
    held = Operation.objects.filter(node=node, state=Operation.State.RUNNING).exclude(worker=worker)
    return held.update(lease_until=timezone.now() - LEASE, rung_at=None)
