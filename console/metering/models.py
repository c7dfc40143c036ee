"""Epochs, readings and usage records, in integers of base units.

A reading is what a kernel counter said; a usage record is the difference of two readings, split at UTC hours by
largest remainder, so that the parts sum to the whole exactly.  Bills are sums of records, never of samples.
"""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.core.ids import epoch_id
from console.core.models import TenantManager


class Meter(models.TextChoices):
    """Unit of each in parentheses.  An hour of one container fits 64 bits up to 2 TiB; longer sums are made in Python."""

    CPU = "cpu", "cpu (ns)"
    BLOCK_READ = "block_read", "block read (bytes)"
    BLOCK_WRITE = "block_write", "block write (bytes)"
    NET_RX = "net_rx", "network received by the container (bytes)"
    NET_TX = "net_tx", "network sent by the container (bytes)"
    MEMORY_LIMIT = "memory_limit", "memory limit over time (KiB-microseconds)"
    MEMORY_USED = "memory_used", "memory used over time (KiB-microseconds), integrated from samples"
    CPU_LIMIT = "cpu_limit", "vCPU limit over time (milli-vCPU-microseconds)"


class Quality(models.TextChoices):
    EXACT = "exact", "exact"
    INTEGRATED = "integrated", "integrated"
    ESTIMATED = "estimated", "estimated"
    MISSING = "missing", "missing"


class MeterEpoch(models.Model):
    """One lifetime of one cgroup."""

    id = models.CharField(primary_key=True, max_length=32, default=epoch_id, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    container = models.ForeignKey("workloads.Container", on_delete=models.PROTECT, related_name="epochs")
    number = models.PositiveIntegerField()
    """``ContainerStatus.epoch``: 1 for the first start."""
    node = models.CharField(max_length=64)
    boot_id = models.CharField(max_length=40, blank=True)
    cgroup_inode = models.BigIntegerField(null=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    lost = models.BooleanField(default=False)
    """The final reading never came: charged up to the last one, and what followed is recorded as missing."""
    sequence = models.PositiveIntegerField(default=0)
    """Of the last reading; 0 before the first."""
    read_at = models.DateTimeField(null=True)
    read_boottime_ns = models.BigIntegerField(null=True)
    counted = models.JSONField(default=dict)
    """Meter -> the last value that was charged up to: what readings say, at hand without going through them."""
    memory_bytes = models.BigIntegerField()
    cpu_millis = models.PositiveIntegerField()

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["container", "number"], name="one_epoch_a_start")]

    def __str__(self) -> str:
        return f"{self.container_id}#{self.number}"


class Reading(models.Model):
    """Append-only."""

    epoch = models.ForeignKey(MeterEpoch, on_delete=models.PROTECT, related_name="readings")
    meter = models.CharField(max_length=16, choices=Meter.choices)
    sequence = models.PositiveIntegerField()
    at = models.DateTimeField()
    boottime_ns = models.BigIntegerField()
    value = models.BigIntegerField(null=True)
    """Null: the kernel does not say; ``reason`` tells why."""
    final = models.BooleanField(default=False)
    reason = models.CharField(max_length=80, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "meter", "sequence"], name="one_reading_a_sequence")]

    def __str__(self) -> str:
        return f"{self.epoch_id} {self.meter} {self.sequence}"


class UsageRecord(models.Model):
    """``id`` is the sha256 of epoch, meter, from, to and window: the same inputs make the same record, twice is once."""

    id = models.CharField(primary_key=True, max_length=64)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    epoch = models.ForeignKey(MeterEpoch, on_delete=models.PROTECT, related_name="records")
    meter = models.CharField(max_length=16, choices=Meter.choices)
    window = models.DateTimeField()
    """The UTC hour."""
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    quantity = models.BigIntegerField()
    quality = models.CharField(max_length=12, choices=Quality.choices)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        indexes = [models.Index(fields=["tenant", "window"]), models.Index(fields=["window", "meter"])]

    def __str__(self) -> str:
        return f"{self.meter} {self.quantity} {self.window:%Y-%m-%dT%HZ}"
