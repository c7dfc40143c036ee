"""The facet ``controls`` in files alone: the same contract as :class:`runtime.api.Controls`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from runtime import validation
from runtime.api import ContainerSpec, ContainerStatus, EventKind, Limits, ProcessRow, Size, State, TenantLimits
from runtime.engines.native.records import Record, Records
from runtime.engines.native.resizing import check_changes
from runtime.errors import Conflict, DeadlineExceeded
from runtime.home import Home, atomic_write
from runtime.validation_limits import check_tenant

POLL_S = 0.02


class Owner(Protocol):
    """What the controls need of the fake engine."""

    @property
    def home(self) -> Home: ...

    def inspect(self, id: str) -> ContainerStatus: ...
    def list(self, *, tenant: str | None = None) -> tuple[ContainerStatus, ...]: ...
    def tell(self, kind: EventKind, id: str, **data: str | float) -> None: ...


class FakeControls:
    def __init__(self, engine: Owner, records: Records) -> None:
        self._engine = engine
        self._records = records

    def pause(self, id: str) -> ContainerStatus:
        return self._set_paused(id, True)

    def resume(self, id: str) -> ContainerStatus:
        return self._set_paused(id, False)

    def _set_paused(self, id: str, paused: bool) -> ContainerStatus:
        with self._engine.home.lock("all"):
            record = self._running(id)
            if record.paused != paused:
                self._records.save(id, replace(record, paused=paused))
                self._engine.tell(EventKind.PAUSED if paused else EventKind.RESUMED, id)
        return self._engine.inspect(id)

    def update(self, id: str, limits: Limits) -> ContainerStatus:
        with self._engine.home.lock("all"):
            spec, record = self._records.spec(id), self._records.record(id)
            validation.check_limits(limits)
            if limits != spec.limits:
                check_changes(spec, limits, running=record.state is State.RUNNING)
                self._records.save_spec(replace(spec, limits=limits))
                data = {"memory_bytes": limits.memory_bytes, "cpu_millis": limits.cpu_millis}
                self._engine.tell(EventKind.UPDATED, id, **data)
                if record.state is State.RUNNING:
                    self._records.save(id, self._resized(spec, record, limits))
        return self._engine.inspect(id)

    @staticmethod
    def _resized(spec: ContainerSpec, record: Record, limits: Limits) -> Record:
        size = Size(time.time(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), limits)
        return replace(record, first_limits=record.first_limits or spec.limits, sizes=(*record.sizes, size))

    def rename(self, id: str, name: str) -> ContainerStatus:
        with self._engine.home.lock("all"):
            spec = self._records.spec(id)
            validation.check_name(name, "name")
            if any(other.name == name and other.id != id for other in self._engine.list(tenant=spec.tenant)):
                raise Conflict(
                    f"The name {name!r} is taken.", hint="Choose another, or remove the other container.", field="name"
                )
            if name != spec.name:
                self._records.save_spec(replace(spec, name=name))
                self._engine.tell(EventKind.RENAMED, id, before=spec.name)
        return self._engine.inspect(id)

    def wait(self, id: str, timeout_s: float) -> ContainerStatus:
        deadline = time.monotonic() + timeout_s
        first = self._engine.inspect(id).epoch
        while True:
            status = self._engine.inspect(id)
            if status.state is not State.RUNNING or status.epoch > first:
                return status
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"The container did not end within {timeout_s:g} seconds.")
            time.sleep(POLL_S)

    def top(self, id: str) -> tuple[ProcessRow, ...]:
        self._running(id)
        command = self._records.spec(id).command or ("sleep",)
        return (ProcessRow(1, 4242, "root", 1_000_000, 1 << 20, " ".join(command)),)

    def limit_tenant(self, tenant: str, limits: TenantLimits) -> None:
        validation.check_id(tenant, "tenant")
        check_tenant(limits)
        atomic_write(self._file(tenant), json.dumps(asdict(limits)).encode())

    def tenant_limits(self, tenant: str) -> TenantLimits:
        validation.check_id(tenant, "tenant")
        try:
            return TenantLimits(**json.loads(self._file(tenant).read_bytes()))
        except FileNotFoundError:
            return TenantLimits()

    def _file(self, tenant: str) -> Path:
        return self._engine.home.state / f"ceiling-{tenant}.json"

    def _running(self, id: str) -> Record:
        record = self._records.record(id)
        if record.state is not State.RUNNING:
            raise Conflict("The container is not running.", hint="Start it first.")
        return record
