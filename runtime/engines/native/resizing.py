"""Other limits for a container, durable and all or none.

Of one that runs: the intent is written down with its instant, then the kernel, then the spec, then the size of this epoch.  Once the
spec has the new limits the change is done; until then recovery undoes it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import fields, replace

from runtime import logs, validation
from runtime.api import ContainerSpec, Limits, Size, State
from runtime.engines.native.ceilings import Ceilings
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Record, Records
from runtime.engines.native.refusals import refuse_unconfined
from runtime.errors import Conflict, InvalidSpec, LimitExceeded, RuntimeFault
from runtime.home import Home
from runtime.kernel import cgroup, limits
from runtime.network.attach import TenantNetworks

WHILE_RUNNING = frozenset({
    "memory_bytes", "swap_bytes", "cpu_millis", "cpu_weight", "cpuset", "pids", "io_weight", "read_bps", "write_bps", "read_iops",
    "write_iops", "net_rx_bps", "net_tx_bps",
})  # fmt: skip
WHILE_STOPPED = WHILE_RUNNING | {"log_bytes"}
MOST_SIZES = 1000
MIB = 2**20

logger = logs.of(__name__)


class Resizing:
    def __init__(self, home: Home, records: Records, ceilings: Ceilings, networks: TenantNetworks) -> None:
        self._home = home
        self._records = records
        self._ceilings = ceilings
        self._networks = networks

    def update(self, spec: ContainerSpec, record: Record, wanted: Limits) -> tuple[ContainerSpec, Record]:
        """The caller holds the lock.  Raises as :meth:`runtime.api.Controls.update` says."""
        if wanted == spec.limits:
            return spec, record
        running = record.state is State.RUNNING
        check_changes(spec, wanted, running=running)
        self._ceilings.check(wanted)
        changed = replace(spec, limits=wanted)
        if not running:
            self._records.save_spec(changed)
            return changed, record
        if len(record.sizes) >= MOST_SIZES:
            raise LimitExceeded(
                f"The limits were changed {MOST_SIZES} times since the start.", hint="Restart the container first."
            )
        refuse_unconfined(self._home.cgroup(spec.tenant, spec.id), record.pid or 0)
        self._check_use(spec, wanted)
        size = Size(time.time(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), wanted)
        marked = replace(record, updating=size, first_limits=record.first_limits or spec.limits)
        self._records.save(spec.id, marked)
        failpoint("update.marked")
        with self._ceilings.held(spec.tenant):  # until the spec has it, by which a ceiling is laid on its containers
            self._apply(spec, record, wanted)
            failpoint("update.applied")
            self._records.save_spec(changed)
        failpoint("update.written")
        return changed, self._done(spec.id, marked, size)

    def _done(self, id: str, record: Record, size: Size) -> Record:
        done = replace(record, updating=None, sizes=(*record.sizes, size))
        self._records.save(id, done)
        return done

    def _apply(self, spec: ContainerSpec, record: Record, wanted: Limits) -> None:
        try:
            self._write(spec, spec.limits, wanted)
        except (OSError, RuntimeFault) as error:
            self._take_back(spec, record, wanted)
            if isinstance(error, OSError) and limits.too_low(error):
                raise Conflict(
                    "The container uses more memory than that.",
                    hint="Choose a higher limit, or stop it first.",
                    field="limits.memory_bytes",
                ) from None
            raise

    def _take_back(self, spec: ContainerSpec, record: Record, wanted: Limits) -> None:
        """What the kernel has taken of it.  What cannot be undone now stays marked, for recovery."""
        try:
            self._write(spec, wanted, spec.limits)
        except (OSError, RuntimeFault):
            logger.exception("other limits of %s could not be undone; recovery tries again", spec.id)
            return
        self._records.save(spec.id, record)

    def _write(self, spec: ContainerSpec, before: Limits, wanted: Limits) -> None:
        ceiling = self._ceilings.of(spec.tenant).cpu_millis
        device = self._ceilings.device_for(before, wanted)
        was, now = (limits.of_container(one, device, ceiling) for one in (before, wanted))
        limits.change(self._home.cgroup(spec.tenant, spec.id), now, was)
        self._networks.reshape(spec.id, wanted.net_rx_bps, wanted.net_tx_bps)

    def finish(self, spec: ContainerSpec, record: Record) -> tuple[ContainerSpec, Record]:
        """A crash during a change: done when the spec has it, else undone.  The caller holds the lock."""
        size = record.updating
        if size is None:
            return spec, record
        if spec.limits == size.limits:
            return spec, self._done(spec.id, record, size)
        with self._ceilings.held(spec.tenant), contextlib.suppress(FileNotFoundError):  # it has ended since
            self._write(spec, size.limits, spec.limits)
        undone = replace(record, updating=None)
        self._records.save(spec.id, undone)
        return spec, undone

    # what may be -------------------------------------------------------------------------------------------

    def _check_use(self, spec: ContainerSpec, wanted: Limits) -> None:
        """A limit below what is in use would have the kernel kill, on version 2."""
        reader = cgroup.Reader(self._home.cgroup(spec.tenant, spec.id))
        try:
            used = reader.read().working_set_bytes or 0
        finally:
            reader.close()
        if wanted.memory_bytes < spec.limits.memory_bytes and used > wanted.memory_bytes:
            raise Conflict(
                f"The container uses {-(-used // MIB)} MiB of memory now.",
                hint="Choose a higher limit, or stop it first.",
                field="limits.memory_bytes",
            )


def check_changes(spec: ContainerSpec, wanted: Limits, *, running: bool) -> None:
    """Raises InvalidSpec or LimitExceeded for the first limit that cannot be, or not now."""
    changing = {one.name for one in fields(wanted) if getattr(wanted, one.name) != getattr(spec.limits, one.name)}
    for name in sorted(changing - (WHILE_RUNNING if running else WHILE_STOPPED)):
        if name in WHILE_STOPPED:
            raise InvalidSpec(
                "This limit can be changed only while the container is stopped.",
                hint="Stop it first.",
                field=f"limits.{name}",
            )
        raise InvalidSpec(
            "This limit is set when the container is made.", hint="Launch a new one.", field=f"limits.{name}"
        )
    validation.check(replace(spec, limits=wanted))
