"""A tenant's running containers in Prometheus' text format, by the names and labels that cAdvisor gives them.

Dashboards and alerts made for cAdvisor work as they are.  ``name``, ``image`` and ``id`` (the path of the cgroup) are its labels;
``tenant`` is ours.  What the kernel does not say is left out, never 0.  Names: github.com/google/cadvisor, docs/storage/prometheus.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from console.workloads.models import Container

LABELS = ("id", "image", "name", "tenant")
CFS_PERIOD_US = 100_000
NANO = 1e-9


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    """Without ``_total``, which the format adds to a counter's."""
    help: str
    counter: str
    """Key of :class:`runtime.api.Counters`, or of what :func:`_facts` adds."""
    grows: bool = True
    scale: float = 1
    extra: tuple[tuple[str, str], ...] = ()
    """Labels that cAdvisor has only on this family."""


FAMILIES = (
    Family("container_cpu_usage_seconds", "CPU time used.", "cpu_ns", scale=NANO, extra=(("cpu", "total"),)),
    Family("container_cpu_cfs_throttled_seconds", "Time for which the CPU limit held it up.", "throttled_ns", scale=NANO),
    Family("container_memory_usage_bytes", "Memory in use, page cache included.", "memory_bytes", grows=False),
    Family("container_memory_working_set_bytes", "Memory that cannot be reclaimed.", "working_set_bytes", grows=False),
    Family("container_oom_events", "Processes killed for want of memory.", "oom_kills"),
    Family("container_processes", "Processes and threads.", "pids", grows=False),
    Family("container_fs_reads_bytes", "Bytes read from disks.", "block_read_bytes", extra=(("device", ""),)),
    Family("container_fs_writes_bytes", "Bytes written to disks.", "block_write_bytes", extra=(("device", ""),)),
    Family("container_network_receive_bytes", "Bytes received, as frames.", "net_rx_bytes", extra=(("interface", "eth0"),)),
    Family("container_network_transmit_bytes", "Bytes sent, as frames.", "net_tx_bytes", extra=(("interface", "eth0"),)),
    Family("container_last_seen", "When it was read, Unix seconds.", "at", grows=False),
    Family("container_start_time_seconds", "When it was started, Unix seconds.", "started_at", grows=False),
    Family("container_spec_memory_limit_bytes", "Its memory limit.", "memory_limit", grows=False),
    Family("container_spec_cpu_period", "The period of its CPU limit, microseconds.", "cpu_period", grows=False),
    Family("container_spec_cpu_quota", "CPU time a period, microseconds.", "cpu_quota", grows=False),
)  # fmt: skip


def exposition(containers: Iterable[Container], counters: Mapping[str, Mapping[str, Any]]) -> bytes:
    """``counters``: container's id -> the fields of :class:`runtime.api.Counters`; a container without is left out."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Containers([(one, counters[one.id]) for one in containers if one.id in counters]))
    return generate_latest(registry)


class _Containers(Collector):
    def __init__(self, found: list[tuple[Container, Mapping[str, Any]]]) -> None:
        self._rows = [(_labels(container), {**values, **_facts(container)}) for container, values in found]

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            kind = CounterMetricFamily if family.grows else GaugeMetricFamily
            names = (*LABELS, *(name for name, _ in family.extra))
            metric = kind(family.name, family.help, labels=names)
            for labels, values in self._rows:
                value = values.get(family.counter)
                if value is not None:
                    metric.add_metric([*labels, *(text for _, text in family.extra)], value * family.scale)
            yield metric


def _labels(container: Container) -> tuple[str, ...]:
    group = f"/{settings.INSTANCE}/{container.tenant_id}/{container.id}"
    return group, container.image_reference, container.name, container.tenant.slug


def _facts(container: Container) -> dict[str, float | None]:
    return {
        "started_at": container.started_at.timestamp() if container.started_at else None,
        "memory_limit": container.memory_bytes,
        "cpu_period": CFS_PERIOD_US,
        "cpu_quota": container.cpu_millis * CFS_PERIOD_US / 1000,
    }
