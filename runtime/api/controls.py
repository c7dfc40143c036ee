"""The facet ``controls``: what can be done to a container while it runs, and to all of a tenant's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from runtime.api.spec import Limits
from runtime.api.status import ContainerStatus


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process of a container."""

    pid: int
    """As the container numbers it."""
    node_pid: int
    """As the node numbers it."""
    user: str
    """A name of the container's own /etc/passwd, else the number that the container sees."""
    cpu_ns: int
    """In user and system mode, in steps of the kernel's clock tick."""
    rss_bytes: int
    command: str
    """Its arguments, with spaces between; the name in brackets where it has none.  The program's own words: escape them."""


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Ceilings over all containers of a tenant together, and its share beside other tenants; None: none, and the usual share."""

    memory_bytes: int | None = None
    cpu_millis: int | None = None
    cpu_weight: int | None = None
    """1 to 10000, of a busy processor; None: 100."""
    pids: int | None = None


class Controls(Protocol):
    """Each verb raises NotFound for an id that is not there."""

    def pause(self, id: str) -> ContainerStatus:
        """Freeze every process.  Paused already: returns its status.

        It stays ``running``, with ``paused`` in its status: it holds its memory, address and ports, and is billed as before.
        Stop, kill (SIGKILL), restart and a forced removal end it as they end others; other signals wait for its resumption.
        Raises Conflict (not running), HostUnfit, DeadlineExceeded (then it is not paused).
        """

    def resume(self, id: str) -> ContainerStatus:
        """Let its processes go on.  Not paused: returns its status.  Raises Conflict (not running)."""

    def update(self, id: str, limits: Limits) -> ContainerStatus:
        """Give it these limits, durably, all or none; a container that runs has them at once.  Equal ones change nothing.

        ``log_bytes`` changes only while it is stopped, ``disk_bytes`` never.  Raises InvalidSpec, LimitExceeded, HostUnfit, ImageUnsuitable, or Conflict
        (it uses more memory than that); then all is as it was.
        """

    def rename(self, id: str, name: str) -> ContainerStatus:
        """Its host name, unless the spec gives one, follows at the next start.  Raises InvalidSpec, Conflict (taken)."""

    def wait(self, id: str, timeout_s: float) -> ContainerStatus:
        """Until it does not run, or runs anew.  Raises DeadlineExceeded after ``timeout_s``."""

    def top(self, id: str) -> tuple[ProcessRow, ...]:
        """Its processes, those of execs too, by their number.  Raises Conflict (not running)."""

    def limit_tenant(self, tenant: str, limits: TenantLimits) -> None:
        """Durable, and at once for what runs.  Raises InvalidSpec, Conflict (more memory is in use); then all is as it was."""

    def tenant_limits(self, tenant: str) -> TenantLimits: ...
