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

Each name's module is loaded when somebody asks for the name (PEP 562): a process of one verb, as the command line is, would wait for all of
them, and making some sixty frozen dataclasses takes longer than its verb does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.api.attach import Attachments, AttachSession, Chunk
    from runtime.api.attachment import DEFAULT_NETWORK, MOST_NETWORKS, Attachment, Connection
    from runtime.api.capability import Capability
    from runtime.api.controls import Controls, ProcessRow, TenantLimits
    from runtime.api.engine import Engine, ExecSession
    from runtime.api.events import Event, EventKind, Events
    from runtime.api.files import Change, CommitSpec, Files
    from runtime.api.health import Health, Outcome, Watched, never
    from runtime.api.healthcheck import CHECK_KINDS, CheckKind, HealthCheck, HealthState
    from runtime.api.image import Image, Layer
    from runtime.api.images import ArchiveForm, HistoryRow, ImageService, Pruned
    from runtime.api.isolation import IsolationReport, LayerMount, NamespaceIds
    from runtime.api.logs import LogLine
    from runtime.api.networks import Network, Networks, NetworkSpec
    from runtime.api.options import Tmpfs, Ulimit, VolumeMount
    from runtime.api.progress import Progress, Step, no_progress
    from runtime.api.reconciliation import Reconciliation
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
    from runtime.api.status import ContainerStatus, Counters, FinalReading, Size, State
    from runtime.api.totals import TenantTotal, Totals
    from runtime.api.volumes import Volume, Volumes, VolumeSpec

_MODULES = {
    "attach": "Attachments AttachSession Chunk",
    "attachment": "DEFAULT_NETWORK MOST_NETWORKS Attachment Connection",
    "capability": "Capability",
    "controls": "Controls ProcessRow TenantLimits",
    "engine": "Engine ExecSession",
    "events": "Event EventKind Events",
    "files": "Change CommitSpec Files",
    "health": "Health Outcome Watched never",
    "healthcheck": "CHECK_KINDS CheckKind HealthCheck HealthState",
    "image": "Image Layer",
    "images": "ArchiveForm HistoryRow ImageService Pruned",
    "isolation": "IsolationReport LayerMount NamespaceIds",
    "logs": "LogLine",
    "networks": "Network Networks NetworkSpec",
    "options": "Tmpfs Ulimit VolumeMount",
    "progress": "Progress Step no_progress",
    "reconciliation": "Reconciliation",
    "restart": "RESTART_MODES RestartMode RestartPolicy Restarts",
    "spec": "ANY_ADDRESS ANY_ADDRESS6 ID_PATTERN ContainerSpec Credentials ExecSpec Limits Port Protocol_",
    "status": "ContainerStatus Counters FinalReading Size State",
    "totals": "TenantTotal Totals",
    "volumes": "Volume Volumes VolumeSpec",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})


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
