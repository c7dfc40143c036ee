"""The Celery tasks.  A message carries an operation's id and nothing else; what it allows is in the database."""

from __future__ import annotations

import logging
import os
import secrets
from typing import Any

from celery import shared_task
from celery.signals import worker_ready
from django.conf import settings
from django.db import close_old_connections, transaction
from django.utils import timezone

from console.metering.services import clock, cycle, deliveries, export_deliveries
from console.operations import aside, services
from console.operations.attendance import attended
from console.operations.engine import current
from console.operations.models import Operation
from console.operations.reconciling import reconcile_rows
from console.operations.runners import RUNNERS, settle_all_bills
from console.workloads import services as workloads
from console.workloads.services import belongings
from runtime.errors import EngineFault, RuntimeFault

log = logging.getLogger(__name__)
_START = secrets.token_hex(4)


def worker_name(start: str = _START) -> str:
    """Of this process alone: in a container each start has the same pid."""
    return f"{os.getpid()}-{start}"


@worker_ready.connect
def take_over(**_: Any) -> None:
    """A worker that was killed left its operations claimed; nobody else works on this node."""
    freed = services.release_leases(settings.NODE, worker_name())
    _sweep()
    if freed:
        log.info("%d operations of a lost worker go on", freed)


@shared_task
def run(*, operation: str) -> None:
    close_old_connections()
    try:
        claimed = services.claim(operation, worker_name())
        if claimed is not None:
            _perform(claimed)
    finally:
        close_old_connections()


def _perform(operation: Operation) -> None:
    with attended(operation) as progress:
        try:
            progress.go_on()
            RUNNERS[operation.kind](operation, current(), progress)
        except RuntimeFault as fault:
            log.info("operation %s (%s): %s", operation.id, operation.kind, fault)
            _fail(operation, fault)
        except Exception:
            log.exception("operation %s (%s) failed in an unforeseen way", operation.id, operation.kind)
            _fail(operation, EngineFault("Something unforeseen went wrong.", hint="The node's log has the details."))
        else:
            services.succeed(operation)


@transaction.atomic
def _fail(operation: Operation, fault: RuntimeFault) -> None:
    """The operation, and with it the container that it was to bring up, or the volume or network that it was to make or remove."""
    begins = operation.kind in {Operation.Kind.LAUNCH, Operation.Kind.START}
    if not services.fail(operation, fault):
        return
    if begins and operation.container is not None:
        workloads.launch_failed(operation.container, fault)
    for one in (operation.volume, operation.network):
        if one is not None:
            belongings.failed(one)


@shared_task
def sweep() -> None:
    close_old_connections()
    _sweep()


def _sweep() -> None:
    for operation in services.hopeless():
        _fail(operation, services.given_up(operation))
    services.sweep()


@shared_task
def reconcile() -> None:
    """Compare rows and engine; see :func:`console.operations.reconciling.reconcile_rows`."""
    close_old_connections()
    engine = current()
    engine.reconcile()
    for stranger in reconcile_rows(engine):
        log.warning("the engine has what no row knows: %s", stranger)
    settle_all_bills(engine)


@shared_task
def bill() -> None:
    """See :func:`console.metering.services.cycle.turn`.  While the clock is in doubt nothing is done."""
    close_old_connections()
    now = timezone.now()
    if clock.believed(now, *clock.since_boot()):
        cycle.turn(now)


@shared_task
def export() -> None:
    """See :func:`console.metering.services.export_deliveries.deliver_due`."""
    aside.begin("exports", lambda: export_deliveries.deliver_due(timezone.now()))


@shared_task
def deliver() -> None:
    """See :func:`console.metering.services.deliveries.deliver_due`."""
    aside.begin("deliveries", lambda: deliveries.deliver_due(timezone.now()))
