"""Beside the work on an operation, a thread renews its lease, writes its progress and looks whether it was cancelled.

The work never waits for the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import DatabaseError, connection

from console.operations import services
from console.operations.models import Operation
from runtime.api import Step
from runtime.errors import Cancelled

log = logging.getLogger(__name__)
WRITE_EVERY_S = 0.2
"""What is done sooner than that shows no progress."""
RENEW_EVERY_S = 4.0


class Attendance:
    """Called with each step of the work (:data:`runtime.api.Progress`); keeps only the latest.  Raises Cancelled there."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._latest: Step | None = None
        self._done = threading.Event()
        self._cancelled = operation.cancelled_at is not None

    def __call__(self, step: Step) -> None:
        self.go_on()
        self._latest = step
        if settings.CELERY_TASK_ALWAYS_EAGER:  # in the caller's transaction: a second connection would wait for it
            services.report(self._operation, step)
            self._cancelled = services.is_cancelled(self._operation)

    def go_on(self) -> None:
        """Raises Cancelled once somebody wanted that."""
        if self._cancelled:
            raise Cancelled("It was cancelled.")

    def attend(self) -> None:
        """Until :meth:`leave`.  A database that is away for a moment is asked again; the lease outlasts several tries."""
        written, renewed = self._latest, time.monotonic()
        try:
            while not self._done.wait(WRITE_EVERY_S):
                try:
                    if (latest := self._latest) is not None and latest is not written:
                        services.report(self._operation, latest)
                        written = latest
                    self._cancelled = self._cancelled or services.is_cancelled(self._operation)
                    if time.monotonic() - renewed >= RENEW_EVERY_S:
                        services.renew(self._operation.id, self._operation.worker)
                        renewed = time.monotonic()
                except DatabaseError:
                    log.warning("the lease of operation %s was not renewed", self._operation.id, exc_info=True)
                    connection.close()
        finally:
            connection.close()

    def leave(self) -> None:
        self._done.set()


@contextmanager
def attended(operation: Operation) -> Iterator[Attendance]:
    attendance = Attendance(operation)
    thread = threading.Thread(target=attendance.attend, name=f"attends {operation.id}", daemon=True)
    if not settings.CELERY_TASK_ALWAYS_EAGER:
        thread.start()
    try:
        yield attendance
    finally:
        attendance.leave()
        if thread.is_alive():
            thread.join(RENEW_EVERY_S)
