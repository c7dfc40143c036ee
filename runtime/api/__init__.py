"""The contract between Slipway and anything that runs containers: frozen specs, states, errors and the Engine protocol.

All verbs are synchronous, thread-safe and idempotent: twice is once.  An engine keeps the truth about its containers
in the kernel and on disk, never only in memory, so any number of processes (worker, agent, command line) may hold
an engine over the same home at once, and kill -9 of any of them loses nothing.  Every wait has a deadline and
ends in :class:`~runtime.errors.DeadlineExceeded`.

States of a container::

    (none) --create--> created --start--> running --exit, stop, kill--> exited --start--> running
    created, exited --remove--> (none);  running --remove(force)--> (none);  anything --reconcile--> what is true

A restart policy adds to ``exited`` the moment of the next start: ``restart_at`` of the status.

``created``   spec and writable layer exist; no process, cgroup, address or published port.
``running``   the process is alive.
``exited``    the process ended, its final counters are stored, nothing of it is left in the kernel: no cgroup, mount,
              interface, address or port.
``removing``  a removal was begun; only remove and reconcile act on it, both finish it.
"""

from __future__ import annotations

from runtime.api.attach import Attachments, AttachSession, Chunk
from runtime.api.controls import Controls, ProcessRow, TenantLimits
from runtime.api.engine import (
    Capability,
    Engine,
    ExecSession,
)
from runtime.api.events import Event, EventKind, Events
from runtime.api.files import Change, CommitSpec, Files
from runtime.api.health import (
    CHECK_KINDS,
    CheckKind,
    Health,
    HealthCheck,
    HealthState,
    Outcome,
    Watched,
    never,
)
from runtime.api.images import ArchiveForm, HistoryRow, ImageService, Pruned
from runtime.api.networks import (
    DEFAULT_NETWORK,
    MOST_NETWORKS,
    Attachment,
    Connection,
    Network,
    Networks,
    NetworkSpec,
)
from runtime.api.options import Tmpfs, Ulimit
from runtime.api.progress import Progress, Step, no_progress
from runtime.api.restart import RESTART_MODES, RestartMode, RestartPolicy, Restarts
from runtime.api.spec import (
    ANY_ADDRESS,
    ANY_ADDRESS6,
    ID_PATTERN,
    ContainerSpec,
    Credentials,
    ExecSpec,
    Limits,
    Port,
    Protocol_,
)
from runtime.api.status import (
    ContainerStatus,
    Counters,
    FinalReading,
    Image,
    IsolationReport,
    Layer,
    LayerMount,
    LogLine,
    NamespaceIds,
    Reconciliation,
    Size,
    State,
)
from runtime.api.totals import TenantTotal, Totals
from runtime.api.volumes import Volume, VolumeMount, Volumes, VolumeSpec

__all__ = [
    "ANY_ADDRESS",
    "ANY_ADDRESS6",
    "CHECK_KINDS",
    "DEFAULT_NETWORK",
    "ID_PATTERN",
    "MOST_NETWORKS",
    "RESTART_MODES",
    "ArchiveForm",
    "AttachSession",
    "Attachment",
    "Attachments",
    "Capability",
    "Change",
    "CheckKind",
    "Chunk",
    "CommitSpec",
    "Connection",
    "ContainerSpec",
    "ContainerStatus",
    "Controls",
    "Counters",
    "Credentials",
    "Engine",
    "Event",
    "EventKind",
    "Events",
    "ExecSession",
    "ExecSpec",
    "Files",
    "FinalReading",
    "Health",
    "HealthCheck",
    "HealthState",
    "HistoryRow",
    "Image",
    "ImageService",
    "IsolationReport",
    "Layer",
    "LayerMount",
    "Limits",
    "LogLine",
    "NamespaceIds",
    "Network",
    "NetworkSpec",
    "Networks",
    "Outcome",
    "Port",
    "ProcessRow",
    "Progress",
    "Protocol_",
    "Pruned",
    "Reconciliation",
    "RestartMode",
    "RestartPolicy",
    "Restarts",
    "Size",
    "State",
    "Step",
    "TenantLimits",
    "TenantTotal",
    "Tmpfs",
    "Totals",
    "Ulimit",
    "Volume",
    "VolumeMount",
    "VolumeSpec",
    "Volumes",
    "Watched",
    "never",
    "no_progress",
]
