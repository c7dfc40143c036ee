"""A container's files as it sees them, for as long as a copy takes: of one that runs its own mounts, of another mounts for that time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.api import ContainerSpec, State
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.records import Record
from runtime.engines.native.volume_mounts import VolumeMounts
from runtime.errors import Conflict
from runtime.home import Home
from runtime.image.store import ImageStore
from runtime.kernel.beneath import FOLDER
from runtime.kernel.mount import table_of
from runtime.kernel.namespaces import root_of_mounts
from runtime.kernel.process import Process
from runtime.network.attach import TenantNetworks
from runtime.storage.snapshot import Snapshots

LOCK_S = 90.0
SYSTEM = (b"proc", b"sys", b"dev")


@dataclass(frozen=True, slots=True)
class View:
    root: int
    """A descriptor of the root folder."""
    uid_base: int
    within: Callable[[os.stat_result], bool]
    """Whether a folder is one of the root's, of a volume's or of a file system in memory, and not of /proc or another file system of the kernel."""
    root_device: int


class Views:
    def __init__(self, home: Home, lifecycle: Lifecycle, images: ImageStore, networks: TenantNetworks) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._images = images
        self._networks = networks
        self._records = lifecycle.records
        self._snapshots = Snapshots(home)
        self._volumes = VolumeMounts(home)

    @contextlib.contextmanager
    def whole(self, id: str) -> Iterator[View]:
        """With volumes.  Raises NotFound, Conflict."""
        spec, record = self._records.spec(id), self._records.record(id)
        if self._runs(record):
            root = self._root_of(record)
            try:
                device = os.stat(self._snapshots.merged(id)).st_dev
                yield self._view(root, spec, device, _devices_in_memory(record.pid or 0))
            finally:
                os.close(root)
            return
        with self._mounted(id) as merged, opened(merged) as root:
            self._volumes.attach(spec, self._uid_base(spec), merged)
            self._volumes.show_in(spec, self._uid_base(spec), root)
            failpoint("view.mounted")
            yield self._view(root, spec, os.fstat(root).st_dev)

    @contextlib.contextmanager
    def root(self, id: str) -> Iterator[View]:
        """Without volumes."""
        spec = self._records.spec(id)
        running = self._runs(self._records.record(id))
        folder = contextlib.nullcontext(self._snapshots.merged(id)) if running else self._mounted(id)
        with folder as merged, opened(merged) as root:
            yield self._view(root, spec, os.fstat(root).st_dev)

    @contextlib.contextmanager
    def upper(self, id: str) -> Iterator[View]:
        """What the container wrote, as overlayfs keeps it."""
        spec = self._records.spec(id)
        if self._runs(self._records.record(id)):
            with opened(self._snapshots.layer(id) / "upper") as root:
                yield self._view(root, spec, os.fstat(root).st_dev)
            return
        with self._held(id), opened(self._snapshots.writable(id) / "upper") as root:
            yield self._view(root, spec, os.fstat(root).st_dev)

    def _runs(self, record: Record) -> bool:
        return record.state is State.RUNNING and not self._lifecycle.ended(record)

    @staticmethod
    def _root_of(record: Record) -> int:
        try:
            with Process(record.pid or 0, record.pid_started) as process:
                return root_of_mounts(process.pid)
        except (ProcessLookupError, FileNotFoundError):
            raise Conflict("The container ended in this moment.", hint="Try again.") from None

    @contextlib.contextmanager
    def _held(self, id: str) -> Iterator[ContainerSpec]:
        """The lock of a container that does not run; whatever is mounted meanwhile is unmounted at the end."""
        with self._home.lock(id, timeout_s=LOCK_S):
            spec, record = self._records.spec(id), self._records.record(id)
            if record.starting or record.state is State.REMOVING or self._runs(record):
                raise Conflict("The container's state changed in this moment.", hint="Try again.")
            try:
                yield spec
            finally:
                self._lifecycle.unmount(id)

    @contextlib.contextmanager
    def _mounted(self, id: str) -> Iterator[Path]:
        with self._held(id) as spec:
            lowers = self._images.layer_folders(self._images.image(spec.image))
            yield self._snapshots.mount(id, lowers, self._uid_base(spec))

    def _uid_base(self, spec: ContainerSpec) -> int:
        return self._networks.tenant(spec.tenant).uid_base

    def _view(self, root: int, spec: ContainerSpec, device: int, more: frozenset[int] = frozenset()) -> View:
        devices = {device, *more}
        for number in range(len(spec.volumes)):
            with contextlib.suppress(FileNotFoundError):
                devices.add(os.stat(self._home.volume_mounts(spec.id) / str(number)).st_dev)
        return View(root, self._uid_base(spec), lambda found: found.st_dev in devices, device)


def _devices_in_memory(pid: int) -> frozenset[int]:
    """Of the container's own, without those that stand for the system's: what the kernel says is mounted (proc(5), mountinfo)."""
    with contextlib.suppress(ProcessLookupError):
        rows = [row.split() for row in table_of(pid)]
        return frozenset(
            os.makedev(*map(int, row[2].split(b":")))
            for row in rows
            if row[row.index(b"-") + 1] == b"tmpfs" and row[4].split(b"/")[1] not in SYSTEM and row[3] == b"/"
        )
    return frozenset()


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, FOLDER | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
