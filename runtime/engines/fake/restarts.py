"""Starts that restart policies have decided on, for containers that are files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from runtime.api import ContainerStatus, State
from runtime.engines import restarting
from runtime.engines.native.records import Records
from runtime.errors import NotFound

Start = Callable[[str], ContainerStatus]


class FakeRestarts:
    """See :class:`runtime.api.Restarts`."""

    def __init__(self, records: Records, start: Start) -> None:
        self._records = records
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
        return self._start(id) if waits and restarting.due(record.restart_at or 0.0, time.time()) else None
