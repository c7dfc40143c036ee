"""What the tenants' own cgroups counted: the witness beside the sum of their containers' records."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.core.models import TenantManager


class TenantCgroup(models.Model):
    """One life of a tenant's cgroup on a node: node, boot and inode name it."""

    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT)
    node = models.CharField(max_length=64)
    boot_id = models.CharField(max_length=40)
    inode = models.BigIntegerField()
    version = models.PositiveSmallIntegerField()
    """Of the hierarchy: on 2 the kernel rounds each container to a microsecond."""
    read_at = models.DateTimeField()
    """The last look, as are the next three."""
    boottime_ns = models.BigIntegerField()
    value = models.BigIntegerField()
    """Nanoseconds."""
    skew = models.BigIntegerField(default=0)
    """How much it grew while the containers in it were read."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "node", "boot_id", "inode"], name="one_life_a_cgroup")]

    def __str__(self) -> str:
        return f"cgroup {self.inode} of {self.tenant_id}"


class TenantHour(models.Model):
    """What a tenant's cgroup used in an hour, in nanoseconds of CPU: differences of its counter, split at the hours by time."""

    cgroup = models.ForeignKey(TenantCgroup, on_delete=models.CASCADE, related_name="hours", db_index=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.PROTECT, db_index=False)
    window = models.DateTimeField()
    quantity = models.BigIntegerField(default=0)
    uncertain = models.BigIntegerField(default=0)
    """What was used across the hour's edges: so much may lie on the other side of one, for this and for the records."""
    watched = models.BooleanField(default=True)
    """False: from some moment in it on; what was before it nobody read."""
    read_at = models.DateTimeField()
    """Up to when it is counted."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cgroup", "window"], name="one_total_an_hour")]
        indexes = [models.Index(fields=["tenant", "window"], name="metering_tenant_hour")]

    def __str__(self) -> str:
        return f"{self.quantity} {self.window:%Y-%m-%dT%HZ}"
