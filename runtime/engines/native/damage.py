"""A container whose own files make no sense: what is known of it by others, and its removal by force.

Whose it is    the claim on its name, the place of its cgroup, the last that was told of it
which start    its record where that is whole; else the bundle of the start (:mod:`runtime.engines.native.epochs`)

remove   end its processes, store the final reading, tell the end, release all that it has in the kernel, tell the removal, rename away,
         give the name back, delete.  A crash before the renaming leaves it damaged, and whoever removes it next goes on; after that the
         sweep does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runtime import logs
from runtime.api import EventKind, Limits, State
from runtime.engines.native import epochs, oci, supervisor
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.records import Damaged, Record
from runtime.engines.native.removal import Removal
from runtime.errors import DeadlineExceeded, NotFound
from runtime.home import Home
from runtime.kernel import cgroup
from runtime.kernel.process import boot_id

logger = logs.of(__name__)


def containers_in_kernel(home: Home) -> Iterator[tuple[str, str]]:
    """(tenant, container's id) of each cgroup that is a container's."""
    root = Path("/sys/fs/cgroup") / ("" if cgroup.version() == 2 else "memory") / home.instance
    return ((folder.parent.name, folder.name) for folder in sorted(root.glob("*/*")) if folder.is_dir())


class Damage:
    def __init__(self, home: Home, lifecycle: Lifecycle, removal: Removal) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._records = lifecycle.records
        self._removal = removal

    def remove(self, id: str) -> None:
        """The caller holds the lock.  Raises DeadlineExceeded: it does not end."""
        supervisor.await_creation(self._home, id)
        tenant = next((tenant for tenant, owner in containers_in_kernel(self._home) if owner == id), "")
        code = self._end(tenant, id)
        failpoint("damage.ended")
        self.store_final(tenant, id)
        failpoint("damage.stored")
        self._tell_end(id, code)
        failpoint("damage.died")
        self._lifecycle.abandon(id, tenant)
        failpoint("damage.released")
        self._tell_removal(id)
        failpoint("remove.told")
        self._removal.bury(id, lambda: self._removal.free_all(id))

    def _end(self, tenant: str, id: str) -> int | None:
        """Its exit code, if its supervisor tells."""
        group = cgroup.Cgroup(self._home.cgroup(tenant, id))
        if tenant:
            group.kill()
        if tenant and group.populated():
            raise DeadlineExceeded("The container does not end, even by SIGKILL.", hint="Look at the node's disk.")
        return self._lifecycle.await_exit_code(id)

    # the final reading -----------------------------------------------------------------------------------

    def store_final(self, tenant: str, id: str) -> None:
        """Of a container without processes, while its cgroup is there; twice is once."""
        try:
            inode = cgroup.Cgroup(self._home.cgroup(tenant, id)).inode()
        except FileNotFoundError:
            return
        if not tenant or any(
            one.cgroup_inode == inode and one.boot_id == boot_id() for one in self._records.finals(id)
        ):
            return
        start = self._start(id, inode)
        final = None if start is None else self._lifecycle.final_reading(tenant, id, *start)
        if final is None:
            logger.error("nobody knows which start of %s its last counters are of: they are lost", id)
        else:
            self._records.store_final(final)

    def _start(self, id: str, inode: int) -> tuple[Record, Limits] | None:
        """That which the cgroup is of, and the limits that it began with; None: nobody knows, or it did not begin."""
        told = epochs.of_bundle(self._home.bundle(id))
        record = self._record(id)
        if record is not None and not record.starting:
            limits = record.first_limits or self._limits(id) or (told and told.limits)
            return (record, limits) if limits and record.state is State.RUNNING else None
        if told is None or not oci.was_started(self._home.runc, id):
            return None
        _, at = supervisor.created(self._home, id)
        began = Record(State.RUNNING, at, boot_id=boot_id(), cgroup_inode=inode, started_at=at, epoch=told.epoch)
        return began, told.limits

    def _record(self, id: str) -> Record | None:
        try:
            return self._records.record(id)
        except (Damaged, NotFound):
            return None

    def _limits(self, id: str) -> Limits | None:
        try:
            return self._records.spec(id).limits
        except (Damaged, NotFound):
            return None

    # events ----------------------------------------------------------------------------------------------

    def _tell_end(self, id: str, code: int | None) -> None:
        """Unless it has been told, or it did not run."""
        last = self._lifecycle.journal.last_of_life(id)
        if last is not None and last.kind is EventKind.STARTED:
            data = {"epoch": last.data["epoch"]} | ({} if code is None else {"exit_code": code})
            self._lifecycle.journal.tell(EventKind.DIED, id, tenant=last.tenant, name=last.name, data=data)

    def _tell_removal(self, id: str) -> None:
        last = self._lifecycle.journal.last_of_life(id)
        if last is None or last.kind is not EventKind.REMOVED:
            tenant, name = self._removal.name_of(id) or ((last.tenant, last.name) if last else ("", id))
            self._lifecycle.journal.tell(EventKind.REMOVED, id, tenant=tenant, name=name)
