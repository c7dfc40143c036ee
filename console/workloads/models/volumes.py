"""Volumes of a tenant, and where its containers have them."""

from __future__ import annotations

from django.db import models

from console.core.ids import volume_id
from console.workloads.models.belongings import Belonging
from console.workloads.models.containers import Container


class Volume(Belonging):
    id = models.CharField(primary_key=True, max_length=32, default=volume_id, editable=False)
    size_bytes = models.BigIntegerField(null=True)
    """At most this much fits; null: as much as the node's disk has."""
    used_bytes = models.BigIntegerField(null=True)
    """On the node's disk, at the last look."""
    looked_at = models.DateTimeField(null=True)


class Mount(models.Model):
    """A container's entry for a volume; it keeps the volume for as long as the container is not removed."""

    container = models.ForeignKey(Container, on_delete=models.CASCADE, related_name="mounts")
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="mounts")
    path = models.CharField(max_length=1000)
    """In the container, absolute."""
    read_only = models.BooleanField(default=False)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["container", "path"], name="one_volume_a_path")]

    def __str__(self) -> str:
        return f"{self.volume_id} at {self.path}"
