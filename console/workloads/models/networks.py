"""Networks of a tenant, and its containers' places on them.

The network ``default`` is every tenant's: its row is made with the tenant's first launch, and it is never removed.
"""

from __future__ import annotations

from django.db import models

from console.core.ids import network_id
from console.workloads.models.belongings import Belonging
from console.workloads.models.containers import Container
from runtime.api import DEFAULT_NETWORK


class Network(Belonging):
    id = models.CharField(primary_key=True, max_length=32, default=network_id, editable=False)
    internal = models.BooleanField(default=False)
    """No way out of it, and no published ports."""
    ipv6 = models.BooleanField(default=False)

    # truth, as last reported
    subnet = models.CharField(max_length=43, blank=True)
    gateway = models.CharField(max_length=39, blank=True)
    subnet6 = models.CharField(max_length=43, blank=True)
    gateway6 = models.CharField(max_length=39, blank=True)

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT_NETWORK


class Attachment(models.Model):
    """A container's place on a network; it keeps the network for as long as the container is not removed."""

    container = models.ForeignKey(Container, on_delete=models.CASCADE, related_name="attachments")
    network = models.ForeignKey(Network, on_delete=models.PROTECT, related_name="attachments")
    aliases = models.JSONField(default=list)
    """Names beside the container's own."""
    requested_address = models.GenericIPAddressField(protocol="IPv4", null=True)
    """That it always has there: nobody else of the tenant may ask for it until the container is removed.  None: any that is free."""
    requested_address6 = models.GenericIPAddressField(protocol="IPv6", null=True)

    # truth while it runs
    address = models.GenericIPAddressField(null=True)
    address6 = models.GenericIPAddressField(null=True)
    interface = models.CharField(max_length=15, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["container", "network"], name="one_place_a_network")]

    def __str__(self) -> str:
        return f"{self.container_id} on {self.network_id}"
