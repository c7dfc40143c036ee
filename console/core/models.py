"""Tenant-scoped queries: the one place that decides which rows a person may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.db import models

if TYPE_CHECKING:
    from console.accounts.models import Tenant, User

M = TypeVar("M", bound=models.Model)


class TenantQuerySet(models.QuerySet[M]):
    """For models with a ``tenant`` foreign key."""

    def of(self, tenant: Tenant) -> TenantQuerySet[M]:
        return self.filter(tenant=tenant)

    def visible_to(self, user: User) -> TenantQuerySet[M]:
        """Rows of the tenants that the user is a member of; an admin of the system sees all."""
        if user.is_superuser:
            return self.all()
        return self.filter(tenant__membership__user=user)


class TenantManager(models.Manager[M]):
    def get_queryset(self) -> TenantQuerySet[M]:
        return TenantQuerySet(self.model, using=self._db)

    def of(self, tenant: Tenant) -> TenantQuerySet[M]:
        return self.get_queryset().of(tenant)

    def visible_to(self, user: User) -> TenantQuerySet[M]:
        return self.get_queryset().visible_to(user)


class EventSequence(models.Model):
    """One counter a tenant: every live event carries the next value, so that a page can tell that it missed one."""

    tenant = models.OneToOneField("accounts.Tenant", on_delete=models.CASCADE, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.value}"
