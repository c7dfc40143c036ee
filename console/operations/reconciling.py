"""Rows and engine compared: containers, volumes and networks of the whole node."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from django.utils import timezone

from console.workloads import services as workloads
from runtime.api import ContainerSpec, ContainerStatus, Engine
from runtime.errors import NotFound


def reconcile_rows(engine: Engine) -> list[str]:
    """Rows and engine compared.  Returns what the engine has and no row knows: containers' ids, ``volume …``, ``network …``."""
    as_of = timezone.now()
    statuses = engine.list()
    strangers = workloads.reconcile(statuses, _specs(engine, statuses))
    strangers += [f"volume {one}" for one in workloads.reconcile_volumes(engine.volumes.list(), as_of)]
    return strangers + [f"network {one}" for one in workloads.reconcile_networks(engine.networks.list(), as_of)]


def _specs(engine: Engine, statuses: Iterable[ContainerStatus]) -> Iterator[ContainerSpec]:
    for status in statuses:
        with contextlib.suppress(NotFound):  # removed in this moment
            yield engine.spec(status.id)
