"""Health of containers that are files: well, until a test says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from runtime.api import ContainerStatus, EventKind, HealthState, Outcome, State, Watched, never
from runtime.engines.native import records
from runtime.engines.native.records import Records
from runtime.errors import Conflict, InvalidSpec, NotFound
from runtime.telemetry.journal import Journal


class FakeHealth:
    """See :class:`runtime.api.Health`."""

    def __init__(self, records: Records, journal: Journal, sick: Path) -> None:
        self._records = records
        self._journal = journal
        self._sick = sick

    def sicken(self, id: str, *, well: bool = False) -> None:
        """For tests: checks of it fail from now on, or no longer."""
        self._sick.mkdir(parents=True, exist_ok=True)
        (self._sick / id).unlink(missing_ok=True) if well else (self._sick / id).touch()

    def watched(self) -> Mapping[str, Watched]:
        return {
            spec.id: Watched(spec.health, record.epoch, record.started_at or 0.0, record.health)
            for spec, record in self._records.readable()
            if record.state is State.RUNNING and record.health and not record.paused and spec.health is not None
        }

    def probe(self, id: str, *, given_up: Callable[[], bool] = never) -> Outcome:
        spec, record = self._records.spec(id), self._records.record(id)
        if record.state is not State.RUNNING:
            raise Conflict("The container is not running.", hint="Start it first.")
        records.refuse_paused(record)
        if spec.health is None or spec.health.kind == "none":
            raise InvalidSpec(
                "The container has no health check.", hint="Give it one when it is launched.", field="health"
            )
        ok = not (self._sick / id).exists() and spec.health.command[:1] != ("false",) and not given_up()
        return Outcome(ok, "" if ok else "sick")

    def report(self, id: str, epoch: int, state: HealthState, output: str = "") -> ContainerStatus | None:
        try:
            spec, record = self._records.spec(id), self._records.record(id)
        except NotFound:
            return None
        if (record.state, record.epoch) != (State.RUNNING, epoch) or record.health == state:
            return None
        record = record.moved(State.RUNNING, health=state, health_output=output)
        self._records.save(id, record)
        kind = EventKind.HEALTHY if state == "healthy" else EventKind.UNHEALTHY
        data = {"output": output} if state == "unhealthy" else None
        self._journal.tell(kind, id, tenant=spec.tenant, name=spec.name, data=data)
        return records.status(id, spec, record)
