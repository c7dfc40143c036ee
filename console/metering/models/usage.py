"""Epochs, readings, allocations and usage records, in integers of base units.

A reading is what a kernel counter said; a usage record is the difference of two readings, split at UTC hours by
largest remainder, so that the parts sum to the whole exactly.  Bills are sums of records, never of samples.
"""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.core.models import TenantManager


class Meter(models.TextChoices):
    """Unit of each in parentheses.  An hour of more than 2.3 TiB does not fit 64 bits and has several records; sums are made in Python."""

    CPU = "cpu", "cpu (ns)"
    BLOCK_READ = "block_read", "block read (bytes)"
    BLOCK_WRITE = "block_write", "block write (bytes)"
    NET_RX = "net_rx", "network received by the container (bytes)"
    NET_TX = "net_tx", "network sent by the container (bytes)"
    MEMORY_LIMIT = "memory_limit", "memory limit over time (KiB-microseconds)"
    MEMORY_USED = "memory_used", "memory used over time (KiB-microseconds), integrated from samples"
    CPU_LIMIT = "cpu_limit", "vCPU limit over time (milli-vCPU-microseconds)"
    PUBLISHED_PORT = "published_port", "published ports over time (port-microseconds)"
    VOLUME_SIZE = "volume_size", "volume size over time (KiB-microseconds)"
    DISK_SIZE = "disk_size", "disk limit of a container over time (KiB-microseconds)"


class Quality(models.TextChoices):
    """Of a record.  ``estimated``: the sum is exact, its division at an hour (or at a step of the clock) is by time."""

    EXACT = "exact", "exact"
    INTEGRATED = "integrated", "integrated"
    ESTIMATED = "estimated", "estimated"
    MISSING = "missing", "missing"


class Resource(models.Model):
    """What was metered, as it was called then.  Never changed: a new name or label is another row, so earlier records keep theirs."""

    class Kind(models.TextChoices):
        CONTAINER = "container", "container"
        PORT = "port", "published port"
        VOLUME = "volume", "volume"

    id = models.CharField(primary_key=True, max_length=64)
    """sha256 of all the rest."""
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    tenant_slug = models.CharField(max_length=40)
    tenant_name = models.CharField(max_length=80)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    identity = models.CharField(max_length=64)
    """The container's id, for one."""
    name = models.CharField(max_length=120)
    image = models.CharField(max_length=400, blank=True)
    node = models.CharField(max_length=64)
    labels = models.JSONField(default=dict)
    """A container's, name -> value, both texts: the tags of its bill."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        indexes = [models.Index(fields=["tenant", "identity"], name="metering_resource_identity")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class MeterEpoch(models.Model):
    """One lifetime of one cgroup.  ``id`` follows from the container and the number of the start."""

    id = models.CharField(primary_key=True, max_length=32, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    container = models.ForeignKey("workloads.Container", on_delete=models.PROTECT, related_name="epochs")
    number = models.PositiveIntegerField()
    """``ContainerStatus.epoch``: 1 for the first start."""
    node = models.CharField(max_length=64)
    boot_id = models.CharField(max_length=40, blank=True)
    cgroup_inode = models.BigIntegerField(null=True)
    started_at = models.DateTimeField()
    started_boottime_ns = models.BigIntegerField(null=True)
    """By the first look: its own boot time less the wall clock's distance to the start."""
    ended_at = models.DateTimeField(null=True)
    lost = models.BooleanField(default=False)
    """The final reading never came: charged up to the last one, and what followed is recorded as missing."""
    end_reason = models.CharField(max_length=16, blank=True)
    """``exited`` or ``lost``; empty while it is open."""
    generation = models.PositiveSmallIntegerField(default=2)
    """1: begun before readings were kept in the form from which records can be recomputed."""
    sequence = models.PositiveIntegerField(default=0)
    """Of the last stored reading; 0 before the first."""
    read_at = models.DateTimeField(null=True)
    """Of the last stored reading."""
    read_boottime_ns = models.BigIntegerField(null=True)
    marks = models.JSONField(default=dict)
    """Meter -> ``[value, microseconds since 1970, boottime ns, sequence]``: up to where it is charged; see ``measuring``."""
    latest = models.JSONField(default=dict)
    """The last look at the counters, stored as a reading or not; see ``measuring.Seen``."""
    memory_bytes = models.BigIntegerField()
    """The limit that it began with, as is the next."""
    cpu_millis = models.PositiveIntegerField()
    sizes = models.JSONField(default=list)
    """How the two changed since, only ever added to; see ``sizes.Size``."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["container", "number"], name="one_epoch_a_start")]
        indexes = [models.Index(fields=["node", "ended_at"], name="metering_epoch_open")]

    def __str__(self) -> str:
        return f"{self.container_id}#{self.number}"


class Reading(models.Model):
    """Append-only.  Stored of each epoch: the first, the last before and the first after each hour, each that tells of an
    anomaly or of a meter that fell silent, and the final one.  ``memory_used`` is the integral since its reading before.

    Whoever stores it holds its epoch's row, so the database does not look that up once more.
    """

    epoch = models.ForeignKey(
        MeterEpoch, on_delete=models.PROTECT, related_name="readings", db_index=False, db_constraint=False
    )
    meter = models.CharField(max_length=16, choices=Meter.choices)
    sequence = models.PositiveIntegerField()
    at = models.DateTimeField()
    placed_at = models.DateTimeField(null=True)
    """Where the clock had been set back: the latest time that the epoch had reached, at which its usage is placed."""
    boottime_ns = models.BigIntegerField()
    value = models.BigIntegerField(null=True)
    """Null: the kernel does not say; ``reason`` tells why."""
    final = models.BooleanField(default=False)
    source = models.CharField(max_length=64, blank=True)
    """The kernel's file that was read."""
    reason = models.CharField(max_length=80, blank=True)
    """Empty, ``unavailable``, or ``anomaly`` for a counter that went back."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["epoch", "meter", "sequence"], name="one_reading_a_sequence")]

    def __str__(self) -> str:
        return f"{self.epoch_id} {self.meter} {self.sequence}"


class Allocation(models.Model):
    """So much of something held from one moment to another, known exactly from the events of its life."""

    id = models.CharField(primary_key=True, max_length=64)
    """sha256 of resource, meter and start."""
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT)
    identity = models.CharField(max_length=64)
    meter = models.CharField(max_length=16, choices=Meter.choices)
    amount = models.BigIntegerField()
    """Ports, or KiB: times microseconds it is the record's quantity."""
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    charged_to = models.DateTimeField()

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["identity", "meter"], condition=models.Q(ended_at__isnull=True), name="one_open_allocation"
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.meter} of {self.identity}"


class UsageRecord(models.Model):
    """The same inputs make the same record, twice is once: ``id`` follows from source, meter, from, to and window.

    Nothing has as many rows, so each has what it needs and no more.  What it refers to the database does not look up once more
    for each: the rows of its period (``services.months``), and of its epoch or allocation, are held by whoever writes it; its
    resource, which nobody ever deletes, was stored before in the same transaction (``services.resources``), and its tenant is its resource's.
    """

    id = models.CharField(primary_key=True, max_length=64)
    """See ``services.records.record_id``; of a record from before it began with its hour, the sha256 alone."""
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.ForeignKey(
        MeterEpoch, null=True, on_delete=models.PROTECT, related_name="records", db_index=False, db_constraint=False
    )
    allocation = models.ForeignKey(
        Allocation, null=True, on_delete=models.PROTECT, related_name="records", db_index=False, db_constraint=False
    )
    resource = models.ForeignKey(
        Resource, on_delete=models.PROTECT, related_name="records", db_index=False, db_constraint=False
    )
    meter = models.CharField(max_length=16, choices=Meter.choices)
    window = models.DateTimeField()
    """The UTC hour."""
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    quantity = models.BigIntegerField()
    quality = models.CharField(max_length=12, choices=Quality.choices)
    from_sequence = models.PositiveIntegerField(null=True)
    """The readings whose difference it is (a part of); 0 for the epoch's start.  Null where it is no difference of two."""
    to_sequence = models.PositiveIntegerField(null=True)
    billed_in = models.ForeignKey(
        "metering.Period", on_delete=models.PROTECT, related_name="records", db_index=False, db_constraint=False
    )
    """The period of its hour or, when that was closed before the record came, the one open then."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        indexes = [
            models.Index(fields=["tenant", "window"]),
            models.Index(fields=["window", "meter"]),
            models.Index(fields=["billed_in", "window"], name="metering_record_billed"),
            models.Index(fields=["epoch"], name="metering_record_epoch"),
            models.Index(
                fields=["allocation"], name="metering_record_allocation", condition=models.Q(allocation__isnull=False)
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(epoch__isnull=False, allocation__isnull=True)
                | models.Q(epoch__isnull=True, allocation__isnull=False),
                name="a_record_has_one_source",
            ),
            models.CheckConstraint(condition=models.Q(quantity__gte=0), name="no_negative_quantity"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} {self.quantity} {self.window:%Y-%m-%dT%HZ}"
