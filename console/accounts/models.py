"""Users, tenants, memberships, quotas and the audit log."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from console.core.ids import tenant_id


class Role(models.TextChoices):
    """What a member may do in a tenant.  Each includes all of the ones after it."""

    OWNER = "owner", _("Owner")  # members and registries of the tenant
    MEMBER = "member", _("Member")  # launch and operate containers
    VIEWER = "viewer", _("Viewer")  # look, and nothing else

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) <= order.index(other)


class User(AbstractUser):
    """A person.  ``is_superuser`` is the admin of the system: sees every tenant, sets quotas, exports bills."""

    class Theme(models.TextChoices):
        AUTO = "auto", _("As the system")
        LIGHT = "light", _("Light")
        DARK = "dark", _("Dark")

    language = models.CharField(max_length=16, blank=True)
    theme = models.CharField(max_length=8, choices=Theme.choices, default=Theme.AUTO)


class Tenant(models.Model):
    id = models.CharField(primary_key=True, max_length=32, default=tenant_id, editable=False)
    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)
    members = models.ManyToManyField(User, through="Membership", related_name="tenants")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    role = models.CharField(max_length=8, choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "tenant"], name="one_membership")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.tenant}"


class Quota(models.Model):
    """Ceilings of a tenant over all of its containers, volumes and networks that are not removed.

    Checked and taken in one transaction, under the lock on this row.  With a ceiling of bytes on disk each container, or volume, needs a
    size of its own; null: no ceiling, and none is needed.
    """

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True)
    containers = models.PositiveIntegerField(default=20, validators=[MinValueValidator(0)])
    memory_bytes = models.BigIntegerField(default=8 * 2**30, validators=[MinValueValidator(0)])
    cpu_millis = models.PositiveIntegerField(default=8000)
    published_ports = models.PositiveIntegerField(default=40)
    disk_bytes = models.BigIntegerField(null=True, validators=[MinValueValidator(0)])
    """What the containers' own disks may hold together."""
    volumes = models.PositiveIntegerField(default=20)
    volume_bytes = models.BigIntegerField(null=True, validators=[MinValueValidator(0)])
    """What the volumes may hold together."""
    networks = models.PositiveIntegerField(default=8)
    """Beside the tenant's ``default``."""

    def __str__(self) -> str:
        return f"quota of {self.tenant_id}"


class MetricsToken(models.Model):
    """What a scraper shows to read a tenant's metrics; see :mod:`console.accounts.tokens`."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    name = models.CharField(max_length=60)
    sha256 = models.CharField(max_length=64, unique=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_token_a_name")]

    def __str__(self) -> str:
        return f"{self.name} of {self.tenant_id}"


class SignInAttempt(models.Model):
    """A password that was tried and was wrong, or is being tried; see :mod:`console.accounts.signing_in`."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    username = models.CharField(max_length=150)
    address = models.CharField(max_length=45)

    class Meta:
        indexes = [models.Index(fields=["username", "at"]), models.Index(fields=["address", "at"])]

    def __str__(self) -> str:
        return f"{self.username} from {self.address}"


class AuditEvent(models.Model):
    """Who did what to what.  Append-only; written in the transaction of the deed."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.SET_NULL)
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    verb = models.CharField(max_length=40, validators=[RegexValidator(r"^[a-z]+\.[a-z_]+$")])
    target = models.CharField(max_length=150, blank=True)
    data = models.JSONField(default=dict)
    address = models.GenericIPAddressField(null=True)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.verb} {self.target}"
