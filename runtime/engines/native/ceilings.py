"""What this kernel can limit, and the ceilings over all of a tenant's containers, which lie on the cgroup around theirs.

A tenant's ceilings are a file; whoever starts a container writes them into the kernel, and so does recovery.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from runtime import logs
from runtime.api import ContainerSpec, Counters, Limits, State, TenantLimits
from runtime.encoding import check
from runtime.engines.native.failpoint import failpoint
from runtime.engines.native.records import Records
from runtime.errors import Conflict, EngineFault, HostUnfit, LimitExceeded, RuntimeFault
from runtime.home import Home, atomic_write, decoding
from runtime.kernel import cgroup, disk, limits
from runtime.kernel.hierarchy import ROOT, version

logger = logs.of(__name__)

OF_DISK = ("io_weight", "read_bps", "write_bps", "read_iops", "write_iops")
NO_CEILING = TenantLimits()
STARTS_WITH_PIDS, STARTS_WITH_BYTES = 8, 8 << 20
"""What the OCI runtime takes of a container's cgroup before its program begins, threads counted, or a little more."""


def disk_limited(wanted: Limits) -> bool:
    return any(getattr(wanted, field) is not None for field in OF_DISK)


class Ceilings:
    def __init__(self, home: Home) -> None:
        self._home = home
        self.folder = home.state / "ceilings"

    # what the kernel can -----------------------------------------------------------------------------------

    def check(self, wanted: Limits) -> None:
        """Raises HostUnfit for a limit that would not hold on this node, naming it."""
        asked = next((field for field in OF_DISK if getattr(wanted, field) is not None), None)
        for controller, field in _needed(wanted, asked):
            if not _offers(controller):
                raise HostUnfit(
                    f"The kernel offers no cgroup controller {controller} to containers.",
                    hint="Boot without cgroup_disable= and let nothing else hold the controllers.",
                    field=f"limits.{field}",
                )
        if wanted.swap_bytes and not limits.swap_counts():
            raise HostUnfit(
                "The kernel does not limit swap.", hint="Boot with swapaccount=1.", field="limits.swap_bytes"
            )
        if asked is not None:
            self._check_disk(wanted, asked)

    def _check_disk(self, wanted: Limits, asked: str) -> None:
        device = self.device()
        if device is None:
            raise HostUnfit(
                "The home lies on no disk whose speed can be limited.",
                hint="Put it on a disk of its own, or go without the limit.",
                field=f"limits.{asked}",
            )
        if wanted.io_weight is not None and not (limits.weight_file() and limits.shared_by_weight(device)):
            raise HostUnfit(
                "The node's disk is not shared by weight.",
                hint="Give it the scheduler bfq, or go without the weight.",
                field="limits.io_weight",
            )

    def device(self) -> str | None:
        """Of the disk that carries the home."""
        return disk.carrying(self._home.state)

    def device_for(self, *wanted: Limits) -> str | None:
        """None when none of them says anything of a disk: most do not, and it takes time."""
        return self.device() if any(map(disk_limited, wanted)) else None

    def limit_created(self, spec: ContainerSpec) -> None:
        """What an OCI runtime does not write, of a container that was created and is not started."""
        settings = limits.of_disk(spec.limits, self.device_for(spec.limits))
        if version() == 1:
            settings = (*settings, limits.of_sockets(spec.limits))
        if settings:
            limits.change(self._home.cgroup(spec.tenant, spec.id), settings)

    # tenants -----------------------------------------------------------------------------------------------

    @contextmanager
    def held(self, tenant: str, *, alone: bool = False) -> Iterator[None]:
        """Nobody changes the tenant's ceilings meanwhile; ``alone``: nor are its containers started or given other limits."""
        with self._home.lock(f"ceiling.{tenant}", shared=not alone):
            yield

    def _file(self, tenant: str) -> Path:
        return self.folder / f"{tenant}.json"

    def of(self, tenant: str) -> TenantLimits:
        try:
            content = self._file(tenant).read_bytes()
        except FileNotFoundError:
            return NO_CEILING
        with decoding(self._file(tenant)):
            found = TenantLimits(**json.loads(content))
            check(found)
            return found

    def apply(self, tenant: str) -> None:
        """To a cgroup that may have been made just now."""
        found = self.of(tenant)
        if found != NO_CEILING:
            limits.change(self._group(tenant), _settings(found))

    def explain(self, tenant: str) -> None:
        """Of a start that the OCI runtime failed at: raises LimitExceeded where the ceilings leave too little for one."""
        found = self.of(tenant)
        if found == NO_CEILING or not cgroup.Cgroup(self._group(tenant)).exists():
            return
        used = self._use(tenant)
        if found.pids is not None and (used.pids or 0) + STARTS_WITH_PIDS > found.pids:
            raise LimitExceeded(
                "The tenant's containers have nearly as many processes as they may have together.",
                hint="Stop some first.",
            )
        if found.memory_bytes is not None and (used.working_set_bytes or 0) + STARTS_WITH_BYTES > found.memory_bytes:
            raise LimitExceeded(
                "The tenant's containers use nearly as much memory as they may use together.", hint="Stop some first."
            )

    def _use(self, tenant: str) -> Counters:
        reader = cgroup.Reader(self._group(tenant))
        try:
            return reader.read()
        finally:
            reader.close()

    def restore(self, records: Records) -> None:
        """What the files say, wherever containers are; without a file the kernel's own."""
        root = (ROOT if version() == 2 else ROOT / "memory") / self._home.instance
        for tenant in sorted(folder.name for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else ():
            try:
                self._restore(tenant, records)
            except (OSError, ValueError, RuntimeFault):  # ValueError: a file that is damaged
                logger.exception("the ceilings of %s could not be put back", tenant)
        for pending in self.folder.glob("*.pending"):
            with self.held(pending.stem, alone=True):
                pending.unlink(missing_ok=True)

    def _restore(self, tenant: str, records: Records) -> None:
        group = self._group(tenant)
        if not (self._pending(tenant).exists() or limits.differs(group, _settings(self.of(tenant)))):
            return
        with self.held(tenant, alone=True):
            wanted = self.of(tenant)
            with contextlib.suppress(
                OSError
            ):  # for a ceiling that is lower than now; else it goes up after the tenant's
                self._cap(tenant, wanted, records)
            limits.change(group, _settings(wanted))
            self._cap(tenant, wanted, records)
            self._pending(tenant).unlink(missing_ok=True)

    def limit(self, tenant: str, wanted: TenantLimits, records: Records) -> None:
        """Kernel first, file last: what a crash leaves between them recovery undoes.  Raises Conflict; then all is as it was."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.held(tenant, alone=True):
            self._pending(tenant).touch()
            before = self._before(tenant)
            if cgroup.Cgroup(self._group(tenant)).exists():
                self._change(tenant, wanted, before, records)
            failpoint("tenant.applied")
            if wanted == NO_CEILING:
                self._file(tenant).unlink(missing_ok=True)
            else:
                atomic_write(self._file(tenant), json.dumps(asdict(wanted)).encode())
            self._pending(tenant).unlink()

    def _before(self, tenant: str) -> TenantLimits:
        """None, as far as anybody knows, where the file is damaged, which another limit mends."""
        try:
            return self.of(tenant)
        except EngineFault:
            logger.warning("the ceilings of %s were damaged and are set anew", tenant)
            return NO_CEILING

    def _pending(self, tenant: str) -> Path:
        """There while a change is under way."""
        return self.folder / f"{tenant}.pending"

    def _change(self, tenant: str, wanted: TenantLimits, before: TenantLimits, records: Records) -> None:
        """On version 1 no container's quota of CPU time may be above the tenant's: lowered before it, raised after it."""
        self._check_use(tenant, wanted, before)
        lowered = (wanted.cpu_millis or 10**9) < (before.cpu_millis or 10**9)
        if lowered:
            self._cap(tenant, wanted, records)
        try:
            limits.change(self._group(tenant), _settings(wanted), _settings(before))
        except OSError as error:
            self._cap(tenant, before, records)
            self._pending(tenant).unlink()
            if limits.too_low(error):
                raise _in_use() from None
            raise
        if not lowered:
            self._cap(tenant, wanted, records)

    def _check_use(self, tenant: str, wanted: TenantLimits, before: TenantLimits) -> None:
        """A ceiling below what is in use would have the kernel kill, on version 2."""
        if wanted.memory_bytes is None or (before.memory_bytes or 2**62) <= wanted.memory_bytes:
            return
        if (self._use(tenant).working_set_bytes or 0) > wanted.memory_bytes:
            self._pending(tenant).unlink()
            raise _in_use()

    def _cap(self, tenant: str, ceiling: TenantLimits, records: Records) -> None:
        if version() == 2:
            return
        for spec, record in records.readable():
            if spec.tenant == tenant and record.state is State.RUNNING:
                settings = limits.of_container(spec.limits, None, ceiling.cpu_millis)
                quota = [setting for setting in settings if setting.file == limits.QUOTA]
                try:
                    limits.change(self._home.cgroup(tenant, spec.id), quota)
                except FileNotFoundError:
                    continue  # it has ended

    def _group(self, tenant: str) -> str:
        return f"/{self._home.instance}/{tenant}"


def _in_use() -> Conflict:
    return Conflict("The tenant's containers use more memory than that.", hint="Stop some first.", field="memory_bytes")


def _settings(wanted: TenantLimits) -> tuple[limits.Setting, ...]:
    return limits.of_tenant(wanted.memory_bytes, wanted.cpu_millis, wanted.cpu_weight, wanted.pids)


def _needed(wanted: Limits, asked_of_disk: str | None) -> Iterator[tuple[str, str]]:
    """(controller, the field that wants it)."""
    if wanted.cpuset:
        yield "cpuset", "cpuset"
    if asked_of_disk is not None:
        yield ("io" if version() == 2 else "blkio"), asked_of_disk


def _offers(controller: str) -> bool:
    if version() == 1:
        return (ROOT / controller).is_dir()
    return controller in (ROOT / "cgroup.controllers").read_text(encoding="ascii").split()
