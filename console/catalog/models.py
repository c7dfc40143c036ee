"""Registries and the repositories that a tenant, or everybody, can launch from.

Built-in applications are not rows: they are the recipe files that :mod:`runtime.image.recipe` reads.
"""

from __future__ import annotations

from typing import ClassVar, Self

from django.db import models

from console.accounts.models import Tenant
from console.core.ids import registry_id, repository_id
from console.core.models import TenantManager


class Registry(models.Model):
    """``tenant`` null: everybody's, set up by an admin."""

    id = models.CharField(primary_key=True, max_length=32, default=registry_id, editable=False)
    tenant = models.ForeignKey(Tenant, null=True, blank=True, on_delete=models.CASCADE)
    host = models.CharField(max_length=255)
    """``registry.example.org`` or ``127.0.0.1:5000``."""
    name = models.CharField(max_length=80)
    username = models.CharField(max_length=255, blank=True)
    password_encrypted = models.BinaryField(default=bytes, blank=True)
    """Fernet; see :mod:`console.core.secrets`.  Never rendered, never logged."""
    insecure = models.BooleanField(default=False)
    trusted = models.BooleanField(default=False)
    """An admin added it: it may lie on the node itself, where a tenant's own registries must not lead."""
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "registries"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "host"], name="one_registry_a_host"),
            models.UniqueConstraint(
                fields=["host"], condition=models.Q(tenant__isnull=True), name="one_registry_a_host_shared"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Repository(models.Model):
    """A catalog entry for an image of a registry."""

    id = models.CharField(primary_key=True, max_length=32, default=repository_id, editable=False)
    tenant = models.ForeignKey(Tenant, null=True, blank=True, on_delete=models.CASCADE)
    registry = models.ForeignKey(Registry, null=True, blank=True, on_delete=models.CASCADE)
    """Null: an image of the default registry, without credentials."""
    name = models.CharField(max_length=255)
    """Repository name within the registry, ``team/app``."""
    tag = models.CharField(max_length=128, default="latest")
    title = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    port = models.PositiveIntegerField(null=True, blank=True)
    memory_bytes = models.BigIntegerField(default=256 * 2**20)
    cpu_millis = models.PositiveIntegerField(default=1000)
    environment = models.JSONField(default=list, blank=True)
    """``[{"name": "…", "default": "…", "help": "…", "required": false}]``."""
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        ordering = ["title"]
        verbose_name_plural = "repositories"

    def __str__(self) -> str:
        return self.title
