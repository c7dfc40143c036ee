"""Containers as tenants own them: intent in the database, truth in the engine.

``Container.state`` is the last state that the engine reported or that an operation put it in::

    pending --launch--> running <--start/stop--> exited --remove--> removed
       \\--launch failed--> failed --remove--> removed

A removed container stays as a row, for its bill and its events; its name and its ports are free again.
"""

from __future__ import annotations

from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from console.accounts.models import Tenant
from console.core.ids import container_id
from console.core.models import TenantManager


class Container(models.Model):
    class State(models.TextChoices):
        PENDING = "pending", _("Launching")
        RUNNING = "running", _("Running")
        EXITED = "exited", _("Stopped")
        FAILED = "failed", _("Failed")
        REMOVED = "removed", _("Removed")

    class RestartPolicy(models.TextChoices):
        NO = "no", _("Never")
        ON_FAILURE = "on-failure", _("After a failure")
        ALWAYS = "always", _("Always")
        UNLESS_STOPPED = "unless-stopped", _("Unless stopped")

    class Health(models.TextChoices):
        STARTING = "starting", _("Health not known yet")
        HEALTHY = "healthy", _("Healthy")
        UNHEALTHY = "unhealthy", _("Unhealthy")

    id = models.CharField(primary_key=True, max_length=32, default=container_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    node = models.CharField(max_length=64)
    name = models.CharField(max_length=63)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)

    # intent
    recipe = models.CharField(max_length=64, blank=True)
    """Slug of the built-in application, or empty."""
    registry = models.ForeignKey("catalog.Registry", null=True, on_delete=models.SET_NULL)
    image_reference = models.CharField(max_length=400)
    command = models.JSONField(default=list)
    """Empty: the image's own."""
    environment = models.JSONField(default=dict)
    memory_bytes = models.BigIntegerField()
    cpu_millis = models.PositiveIntegerField()
    pids = models.PositiveIntegerField(default=256)
    terminal = models.BooleanField(default=False)
    restart_policy = models.CharField(max_length=16, choices=RestartPolicy.choices, default=RestartPolicy.NO)
    restart_retries = models.PositiveIntegerField(null=True)
    """With ``on-failure``; null: without end."""
    labels = models.JSONField(default=dict)
    """Name -> value, both texts."""
    disk_bytes = models.BigIntegerField(null=True)
    """What it may write into its own root; null: as much as the node's disk has."""
    entrypoint = models.JSONField(default=list)
    """Likewise with the next four: empty is the image's own."""
    user = models.CharField(max_length=100, blank=True)
    working_dir = models.CharField(max_length=1000, blank=True)
    hostname = models.CharField(max_length=63, blank=True)
    """Empty: its name."""
    health_check = models.JSONField(null=True)
    """The fields of :class:`runtime.api.HealthCheck`; null: the image's own, if it has one."""
    read_only = models.BooleanField(default=False)
    init = models.BooleanField(default=True)
    """A small init is its first process."""
    wanted = models.CharField(
        max_length=8,
        choices=[("running", "running"), ("stopped", "stopped"), ("removed", "removed")],
        default="running",
    )

    # truth, as last reported
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    image_digest = models.CharField(max_length=80, blank=True)
    address = models.GenericIPAddressField(null=True)
    exit_code = models.IntegerField(null=True)
    oom_killed = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    epoch = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    restart_at = models.DateTimeField(null=True)
    """When its restart policy starts it again; null while it does not."""
    restarts = models.PositiveIntegerField(default=0)
    """How often its restart policy has done that since somebody started it."""
    health = models.CharField(max_length=9, choices=Health.choices, blank=True)
    """Empty: it has no health check, or does not run."""
    health_output = models.TextField(blank=True)
    """What the check that made the last change of health said: the container's own words."""
    paused = models.BooleanField(default=False)
    """It runs, and every process of it is frozen."""

    objects: ClassVar[TenantManager[Self]] = TenantManager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=models.Q(removed_at__isnull=True), name="one_container_a_name"
            )
        ]
        indexes = [models.Index(fields=["tenant", "state"])]

    def __str__(self) -> str:
        return self.name


class PublishedPort(models.Model):
    """``host_port`` null until the engine has chosen one.  ``released_at`` null while it is the container's."""

    container = models.ForeignKey(Container, on_delete=models.CASCADE, related_name="ports")
    container_port = models.PositiveIntegerField()
    protocol = models.CharField(max_length=3, choices=[("tcp", "tcp"), ("udp", "udp")], default="tcp")
    host_address = models.GenericIPAddressField(default="0.0.0.0")  # noqa: S104 -- all addresses of the node
    host_port = models.PositiveIntegerField(null=True)
    requested_port = models.PositiveIntegerField(null=True)
    """What the person asked for; null: any."""
    released_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["container_port", "protocol"]
        constraints = [
            models.UniqueConstraint(
                fields=["protocol", "host_address", "host_port"],
                condition=models.Q(released_at__isnull=True, host_port__isnull=False),
                name="one_owner_a_port",
            )
        ]

    def __str__(self) -> str:
        return f"{self.host_port or '*'}:{self.container_port}/{self.protocol}"


class ContainerEvent(models.Model):
    """What happened to a container, for its page.  ``kind`` is one of the words below; ``data`` fills the sentence."""

    class Kind(models.TextChoices):
        CREATED = "created", _("Launch requested")
        STARTED = "started", _("Started")
        EXITED = "exited", _("Exited")
        OOM = "oom", _("Ran out of memory")
        FAILED = "failed", _("Operation failed")
        STOPPING = "stopping", _("Stop requested")
        REMOVED = "removed", _("Removed")
        ADOPTED = "adopted", _("Adopted after a restart of Slipway")
        LOST = "lost", _("Gone without a trace")
        RESTARTING = "restarting", _("Its restart policy will start it again")
        RESTARTED = "restarted", _("Started again by its restart policy")
        HEALTHY = "healthy", _("Became healthy")
        UNHEALTHY = "unhealthy", _("Became unhealthy")
        PAUSED = "paused", _("Paused")
        RESUMED = "resumed", _("Resumed")
        UPDATED = "updated", _("Limits changed")
        RENAMED = "renamed", _("Renamed")
        CONNECTED = "connected", _("Connected to a network")
        DISCONNECTED = "disconnected", _("Disconnected from a network")

    container = models.ForeignKey(Container, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.container_id}"
