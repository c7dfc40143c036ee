"""Scheduled exports: what of a tenant's usage goes where each day or month, and how each delivery went."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.accounts.models import Tenant
from console.core.ids import export_id
from console.core.models import TenantManager


class ExportSchedule(models.Model):
    """``tenant`` null: of all tenants, set up by an admin, a folder for each in it."""

    class Every(models.TextChoices):
        DAY = "day", "day"
        MONTH = "month", "month"

    class Place(models.TextChoices):
        FOLDER = "folder", "folder"
        S3 = "s3", "s3"

    class Content(models.TextChoices):
        USAGE_CSV = "usage-csv", "usage-csv"
        USAGE_JSONL = "usage-jsonl", "usage-jsonl"
        USAGE_PARQUET = "usage-parquet", "usage-parquet"
        FOCUS = "focus", "focus"
        READINGS = "readings", "readings"

    id = models.CharField(primary_key=True, max_length=32, default=export_id, editable=False)
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE)
    name = models.CharField(max_length=80)
    contents = models.JSONField()
    """Of :class:`Content`, in its order, at least one."""
    every = models.CharField(max_length=5, choices=Every.choices)
    hour = models.PositiveSmallIntegerField()
    """UTC, after the period's last day: 0 is the moment that it ends."""
    place = models.CharField(max_length=6, choices=Place.choices)
    location = models.CharField(max_length=700)
    """Where the files go, as a person reads it; two of a tenant never go to one place."""
    root = models.CharField(max_length=300, blank=True)
    """Of a folder: one that an admin allows, see ``settings.EXPORT_ROOTS``."""
    folder = models.CharField(max_length=200, blank=True)
    """Under the tenant's own within the root, or what keys of a store begin with; names joined by ``/``, may be empty."""
    endpoint = models.CharField(max_length=300, blank=True)
    region = models.CharField(max_length=40, blank=True)
    bucket = models.CharField(max_length=63, blank=True)
    access_key = models.CharField(max_length=128, blank=True)
    secret_encrypted = models.BinaryField(default=bytes)
    """Fernet; see :mod:`console.core.secrets`.  Never rendered, never logged."""
    inside = models.BooleanField(default=False)
    """An admin allowed the store to lie on the node or inside its site."""
    paused = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    """Periods that ended before are exported only when somebody asks."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "location"], name="one_export_a_location"),
            models.UniqueConstraint(
                fields=["location"], condition=models.Q(tenant__isnull=True), name="one_export_a_location_of_all"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ExportDelivery(models.Model):
    """One period's files: tried until they are there or it is given up; each try writes the same bytes under the same names.

    ::

        waiting --all there, the manifest last--> delivered
           \\--MOST_ATTEMPTS, or what no other try can mend--> given_up
        (asked for again by a person, either is waiting once more)
    """

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        DELIVERED = "delivered", "delivered"
        GIVEN_UP = "given_up", "given up"

    schedule = models.ForeignKey(ExportSchedule, on_delete=models.CASCADE, related_name="deliveries")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    """Not included."""
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField()
    """When it is tried next; while somebody tries it, when another may."""
    error = models.CharField(max_length=300, blank=True)
    """Why the last try failed; in English, see ``core.sentences``."""
    delivered_at = models.DateTimeField(null=True)
    files = models.PositiveIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    """Of the manifest."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["schedule", "starts_at"], name="one_delivery_a_period")]
        indexes = [models.Index(fields=["state", "due_at"], name="metering_export_due")]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.starts_at:%Y-%m-%d} {self.state}"

    @property
    def at_work(self) -> bool:
        """Somebody tries it just now, or died over it: a try that failed has left why."""
        return self.state == self.State.WAITING and self.attempts > 0 and not self.error
