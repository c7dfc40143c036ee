"""Operations: what somebody asked for, who works on it, how far it is and how it ended.

::

    queued --claim--> running --finish--> succeeded
      |                  |  \\----fail---> failed
      |                  \\--lease lost--> queued (attempts + 1), or failed after MAX_ATTEMPTS
      \\---cancel---> cancelled <--its next step--- running, once somebody cancelled it

A container has at most one operation that runs and one that waits for it; a volume or a network at most one that is open.  A claim
is one conditional UPDATE, so two workers never hold the same operation.  A worker renews its lease while it works;
the sweep puts back what nobody claimed or whose lease ran out.  Every engine verb is idempotent, so doing it again is safe.
"""

from __future__ import annotations

from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from console.accounts.models import Tenant
from console.core.ids import operation_id
from console.core.models import TenantManager


class Operation(models.Model):
    class Kind(models.TextChoices):
        LAUNCH = "launch", _("Launch")
        START = "start", _("Start")
        STOP = "stop", _("Stop")
        KILL = "kill", _("Kill")
        RESTART = "restart", _("Restart")
        REMOVE = "remove", _("Remove")
        BUILD = "build", _("Build image")
        PULL = "pull", _("Pull image")
        REMOVE_IMAGE = "remove_image", _("Remove image")
        PAUSE = "pause", _("Pause")
        RESUME = "resume", _("Resume")
        UPDATE = "update", _("Change limits")
        RENAME = "rename", _("Rename")
        CONNECT = "connect", _("Connect to network")
        DISCONNECT = "disconnect", _("Disconnect from network")
        CREATE_VOLUME = "create_volume", _("Make volume")
        REMOVE_VOLUME = "remove_volume", _("Remove volume")
        CREATE_NETWORK = "create_network", _("Make network")
        REMOVE_NETWORK = "remove_network", _("Remove network")

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    OPEN = (State.QUEUED, State.RUNNING)
    CAN_CANCEL = (Kind.LAUNCH, Kind.START, Kind.BUILD, Kind.PULL)
    """They take long, and nothing of them is left when they end half way."""

    MAX_ATTEMPTS = 5

    id = models.CharField(primary_key=True, max_length=32, default=operation_id, editable=False)
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE)
    """Null: the system's own, such as building the catalog."""
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    node = models.CharField(max_length=64)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    container = models.ForeignKey("workloads.Container", null=True, on_delete=models.CASCADE, related_name="operations")
    volume = models.ForeignKey("workloads.Volume", null=True, on_delete=models.CASCADE, related_name="operations")
    network = models.ForeignKey("workloads.Network", null=True, on_delete=models.CASCADE, related_name="operations")
    params = models.JSONField(default=dict)
    """What the kind needs beyond its subject: ``{"recipe": …}``, ``{"reference": …, "registry": …}``, ``{"signal": …}``,
    ``{"name": …}`` (rename), ``{"network": …, "aliases": […]}`` (connect), ``{"network": …}`` (disconnect), ``{"memory_bytes": …, "cpu_millis": …, "pids": …}`` (update)."""
    request_key = models.CharField(max_length=64)
    """Made by the form; the same key again is the same operation, so a double click launches once."""

    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    stage = models.CharField(max_length=16, blank=True)
    done = models.BigIntegerField(default=0)
    total = models.BigIntegerField(null=True)
    detail = models.CharField(max_length=200, blank=True)

    attempts = models.PositiveSmallIntegerField(default=0)
    worker = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(null=True)
    rung_at = models.DateTimeField(null=True)
    """When the broker was last told."""
    cancelled_at = models.DateTimeField(null=True)
    """When somebody wanted it ended; it may have come to its end before it saw that."""

    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    error_hint = models.TextField(blank=True)
    error_field = models.CharField(max_length=80, blank=True)
    error_data = models.JSONField(default=dict)

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "request_key"], name="one_operation_a_request"),
            models.UniqueConstraint(
                fields=["request_key"], condition=models.Q(tenant__isnull=True), name="one_operation_a_request_shared"
            ),
            models.UniqueConstraint(
                fields=["container"],
                condition=models.Q(state="running"),
                name="one_running_operation_a_container",
            ),
            models.UniqueConstraint(
                fields=["container"],
                condition=models.Q(state="queued"),
                name="one_waiting_operation_a_container",
            ),
            models.UniqueConstraint(
                fields=["volume"],
                condition=models.Q(state__in=["queued", "running"]),
                name="one_open_operation_a_volume",
            ),
            models.UniqueConstraint(
                fields=["network"],
                condition=models.Q(state__in=["queued", "running"]),
                name="one_open_operation_a_network",
            ),
        ]
        indexes = [models.Index(fields=["state", "lease_until"]), models.Index(fields=["tenant", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.id} {self.state}"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN

    @property
    def can_be_cancelled(self) -> bool:
        return self.is_open and self.kind in self.CAN_CANCEL and self.cancelled_at is None

    @property
    def percent(self) -> int | None:
        """Of the current stage; None when the total is unknown."""
        return min(100, self.done * 100 // self.total) if self.total else None
