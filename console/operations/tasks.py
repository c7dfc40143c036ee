"""The Celery tasks.  A message carries an operation's id and nothing else; what it allows is in the database."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import shared_task
from celery.signals import worker_ready
from django.conf import settings
from django.db import close_old_connections, connection

from console.operations import services
from console.operations.engine import current
from console.operations.models import Operation
from console.operations.runners import RUNNERS, settle_bills
from console.workloads import services as workloads
from runtime.errors import EngineFault, RuntimeFault

log = logging.getLogger(__name__)
HEARTBEAT_S = 4.0


def _worker() -> str:
    return f"{settings.NODE}/{os.getpid()}"


@worker_ready.connect
def take_over(**_: Any) -> None:
    """A worker that was killed left its operations claimed; nobody else works on this node."""
    freed = services.release_leases(settings.NODE, _worker())
    services.sweep()
    if freed:
        log.info("%d operations of a lost worker go on", freed)


@shared_task
def run(*, operation: str) -> None:
    close_old_connections()
    try:
        claimed = services.claim(operation, _worker())
        if claimed is not None:
            _perform(claimed)
    finally:
        close_old_connections()


def _perform(operation: Operation) -> None:
    with _heartbeat(operation):
        try:
            RUNNERS[operation.kind](operation, current(), services.Reporter(operation))
        except RuntimeFault as fault:
            log.info("operation %s (%s): %s", operation.id, operation.kind, fault)
            services.fail(operation, fault)
        except Exception:
            log.exception("operation %s (%s) failed in an unforeseen way", operation.id, operation.kind)
            services.fail(
                operation, EngineFault("Something unforeseen went wrong.", hint="The node's log has the details.")
            )
        else:
            services.succeed(operation)


@contextmanager
def _heartbeat(operation: Operation) -> Iterator[None]:
    """Renew the lease while the work goes on, from a thread with a database connection of its own."""
    done = threading.Event()

    def beat() -> None:
        try:
            while not done.wait(HEARTBEAT_S):
                services.renew(operation.id, operation.worker)
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name=f"lease {operation.id}", daemon=True)
    if not settings.CELERY_TASK_ALWAYS_EAGER:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join(HEARTBEAT_S)


@shared_task
def sweep() -> None:
    close_old_connections()
    services.sweep()


@shared_task
def reconcile() -> None:
    """Compare rows and engine; see :func:`console.workloads.services.reconcile`."""
    close_old_connections()
    engine = current()
    engine.reconcile()
    settle_bills(engine)
    workloads.reconcile(engine.list())
