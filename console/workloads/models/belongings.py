"""What a tenant has beside its containers, and containers use: the part that volumes and networks share.

::

    pending --made--> ready --remove--> removing --> removed
       \\--could not be made--> failed      |
                                 ^  ready <--/ it could not be removed
    ready --the node has lost it--> lost --remove--> removing
    lost, failed --it is there after all--> ready

A removed one stays as a row, for its bill; its name is free again.
"""

from __future__ import annotations

from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from console.accounts.models import Tenant
from console.core.models import TenantManager


class Belonging(models.Model):
    class State(models.TextChoices):
        PENDING = "pending", _("Being made")
        READY = "ready", _("Ready")
        FAILED = "failed", _("Failed")
        LOST = "lost", _("Lost")
        REMOVING = "removing", _("Being removed")
        REMOVED = "removed", _("Removed")

    USABLE = (State.PENDING, State.READY)
    """By a launch, which makes what is pending."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    node = models.CharField(max_length=64)
    name = models.CharField(max_length=63)
    """Also the engine's name for it, among the tenant's."""
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    """As the engine last reported it, or as an operation put it."""
    made_at = models.DateTimeField(null=True)
    """When the node told for the first time that it has it."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        abstract = True
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=models.Q(removed_at__isnull=True), name="one_%(class)s_a_name"
            )
        ]

    def __str__(self) -> str:
        return self.name
