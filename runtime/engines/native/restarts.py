"""Starts that restart policies have decided on, carried out under the container's lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from runtime.api import ContainerSpec, ContainerStatus, EventKind, State, no_progress
from runtime.engines import restarting
from runtime.engines.native import records, retelling
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.records import Record, Records
from runtime.engines.native.refusals import told
from runtime.errors import NotFound, RuntimeFault
from runtime.home import Home
from runtime.telemetry.journal import Journal

Settled = Callable[[str], tuple[ContainerSpec, Record]]


class NativeRestarts:
    """See :class:`runtime.api.Restarts`."""

    def __init__(self, home: Home, lifecycle: Lifecycle, settled: Settled) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._records = lifecycle.records
        self._settled = settled

    def waiting(self) -> Mapping[str, float]:
        return {
            spec.id: record.restart_at
            for spec, record in self._records.readable()
            if record.restart_at is not None and record.state is State.EXITED
        }

    def carry_out(self, id: str) -> ContainerStatus | None:
        if not self._records.exists(id):
            return None
        with self._home.lock(id, timeout_s=90):
            try:
                spec, record = self._settled(id)
            except NotFound:
                return None
            waits = record.state is State.EXITED and record.restart_at is not None
            if not waits or not restarting.due(record.restart_at or 0.0, time.time()):
                return None
            failpoint("restart.due")
            try:
                with told(), self._lifecycle.ceilings.held(spec.tenant):
                    record = self._lifecycle.start(spec, record, no_progress)
            except RuntimeFault as fault:
                record = failed(self._records, self._lifecycle.journal, spec, record, fault)
            return records.status(id, spec, record)


def failed(kept: Records, journal: Journal, spec: ContainerSpec, record: Record, fault: RuntimeFault) -> Record:
    """What becomes of a container whose start by its policy has failed: the next try comes later, if there is one."""
    now = time.time()
    past = restarting.Past(
        stopped=False,
        exit_code=None,
        cut_off=False,
        ran_s=0.0,
        restarts=record.restarts + 1,
        failures=record.failures,
    )
    decision = restarting.decide(spec.restart, past)
    record = record.moved(
        State.EXITED,
        restarts=past.restarts,
        failures=decision.failures,
        restart_at=None if decision.wait_s is None else now + decision.wait_s,
        reason=str(fault),
    )
    kept.save_end(spec.id, record)
    journal.tell(EventKind.RESTART_FAILED, spec.id, tenant=spec.tenant, name=spec.name, data={"message": str(fault)})
    retelling.tell_wait(journal, spec, record, now)
    return record
