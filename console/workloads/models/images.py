"""Images of a node's store, as tenants may use them."""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.accounts.models import Tenant
from console.core.models import TenantManager


class Image(models.Model):
    """An image of the node's store that a tenant may use; ``tenant`` null: built in, everybody's.

    The store shares layers between tenants; a row is the right to use one, and is made by a successful pull or build.
    """

    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE)
    node = models.CharField(max_length=64)
    reference = models.CharField(max_length=400)
    digest = models.CharField(max_length=80)
    """``runtime.api.Image.id``."""
    architecture = models.CharField(max_length=32, blank=True)
    size = models.BigIntegerField(default=0)
    layers = models.JSONField(default=list)
    """``[{"digest": …, "diff_id": …, "size": …, "created_by": …}]``, bottom first."""
    config = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        ordering = ["reference"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "node", "reference"], name="one_image_a_reference"),
            models.UniqueConstraint(
                fields=["node", "reference"],
                condition=models.Q(tenant__isnull=True),
                name="one_image_a_reference_shared",
            ),
        ]

    def __str__(self) -> str:
        return self.reference
