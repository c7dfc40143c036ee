"""Starts that restart policies have decided on, for containers that are files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from runtime.api import ContainerStatus, State
from runtime.engines import restarting
from runtime.engines.native import records
from runtime.engines.native.records import Records
from runtime.engines.native.restarts import failed
from runtime.errors import NotFound, RuntimeFault
from runtime.telemetry.journal import Journal

Start = Callable[[str], ContainerStatus]


class FakeRestarts:
    """See :class:`runtime.api.Restarts`."""

    def __init__(self, kept: Records, journal: Journal, start: Start) -> None:
        self._records = kept
        self._journal = journal
        self._start = start

    def waiting(self) -> Mapping[str, float]:
        return {
            spec.id: record.restart_at
            for spec, record in self._records.readable()
            if record.restart_at is not None and record.state is State.EXITED
        }

    def carry_out(self, id: str) -> ContainerStatus | None:
        try:
            record = self._records.record(id)
        except NotFound:
            return None
        waits = record.state is State.EXITED and record.restart_at is not None
        if not waits or not restarting.due(record.restart_at or 0.0, time.time()):
            return None
        try:
            return self._start(id)
        except NotFound:
            return None
        except RuntimeFault as fault:
            spec = self._records.spec(id)
            return records.status(id, spec, failed(self._records, self._journal, spec, record, fault))
