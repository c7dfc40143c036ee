"""What restart policies and health checks do to a container, among its events: both may go on for ever, so the events are bounded."""

from __future__ import annotations

import time

from console.workloads.models import Container, ContainerEvent
from runtime.api import ContainerStatus

KEPT = 300
Kind = ContainerEvent.Kind
REPEATED = (Kind.RESTARTING, Kind.RESTARTED, Kind.EXITED, Kind.OOM, Kind.HEALTHY, Kind.UNHEALTHY)


def waits(container: Container, status: ContainerStatus) -> None:
    """Its policy will start it again; told with why the last try failed, if that is what it was."""
    if status.restart_at is None:
        return
    data: dict[str, str | int] = {"in_s": max(0, round(status.restart_at - time.time())), "number": status.restarts + 1}
    if status.restarts:
        data |= {"reason": status.reason}
    ContainerEvent.objects.create(container=container, kind=Kind.RESTARTING, data=data)
    _forget_old(container)


def health_changed(container: Container, before: str, status: ContainerStatus) -> None:
    if status.health == before or status.health not in {"healthy", "unhealthy"}:
        return
    kind = Kind.HEALTHY if status.health == "healthy" else Kind.UNHEALTHY
    data = {"output": status.health_output} if kind is Kind.UNHEALTHY else {}
    ContainerEvent.objects.create(container=container, kind=kind, data=data)
    _forget_old(container)


def _forget_old(container: Container) -> None:
    old = ContainerEvent.objects.filter(container=container, kind__in=REPEATED).order_by("-id")
    last = old.values_list("id", flat=True)[KEPT : KEPT + 1]
    if last:
        old.filter(id__lte=last[0]).delete()
