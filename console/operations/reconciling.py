"""Rows and engine compared: containers, volumes and networks of the whole node."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from django.utils import timezone

from console.workloads import services as workloads
from runtime.api import ContainerSpec, ContainerStatus, Engine
from runtime.errors import EngineFault, NotFound

log = logging.getLogger(__name__)
T = TypeVar("T")


def reconcile_rows(engine: Engine) -> list[str]:
    """Rows and engine compared.  Returns what the engine has and no row knows: containers' ids, ``volume …``, ``network …``."""
    as_of = timezone.now()
    statuses = engine.list()
    strangers = workloads.reconcile(statuses, _specs(engine, statuses))
    volumes, networks = _listed(engine.volumes.list), _listed(engine.networks.list)
    if volumes is not None:
        strangers += [f"volume {one}" for one in workloads.reconcile_volumes(volumes, as_of)]
    if networks is not None:
        strangers += [f"network {one}" for one in workloads.reconcile_networks(networks, as_of)]
    return strangers


def _specs(engine: Engine, statuses: Iterable[ContainerStatus]) -> Iterator[ContainerSpec]:
    for status in statuses:
        with contextlib.suppress(NotFound, EngineFault):  # removed in this moment, or damaged
            yield engine.spec(status.id)


def _listed(listing: Callable[[], T]) -> T | None:
    """None: while a container is damaged nobody knows what it uses, so nothing is compared rather than told as lost."""
    try:
        return listing()
    except EngineFault as fault:
        log.warning("volumes or networks are not compared: %s", fault)
        return None
