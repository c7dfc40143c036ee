"""Who is what, where."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet

from console.accounts.models import AuditEvent, Membership, Quota, Role, Tenant, User
from console.core.errors import Missing


def role_in(user: User | AnonymousUser, tenant: Tenant) -> Role | None:
    """An admin of the system counts as an owner everywhere."""
    if isinstance(user, AnonymousUser) or not user.is_active:
        return None
    if user.is_superuser:
        return Role.OWNER
    role = Membership.objects.filter(user=user, tenant=tenant).values_list("role", flat=True).first()
    return Role(role) if role else None


def tenants(user: User) -> QuerySet[Tenant]:
    return Tenant.objects.all() if user.is_superuser else Tenant.objects.filter(membership__user=user)


def tenant(user: User, id: str) -> Tenant:
    found = tenants(user).filter(pk=id).first()
    if found is None:
        raise Missing
    return found


def members(tenant: Tenant) -> QuerySet[Membership]:
    return Membership.objects.filter(tenant=tenant).select_related("user").order_by("user__username")


def users() -> QuerySet[User]:
    """Everybody, with the tenants they are in; for admins."""
    return User.objects.prefetch_related("membership_set__tenant").order_by("username")


def quota(tenant: Tenant) -> Quota:
    return Quota.objects.filter(tenant=tenant).first() or Quota(tenant=tenant)


def tenants_with_quotas() -> list[Tenant]:
    """Everybody's, with their members; for admins.  A tenant whose quota nobody has set yet has the usual one."""
    found = list(Tenant.objects.select_related("quota").prefetch_related("membership_set__user"))
    for one in found:
        if not hasattr(one, "quota"):
            one.quota = Quota(tenant=one)
    return found


def audit(user: User, tenant: Tenant | None = None) -> QuerySet[AuditEvent]:
    """Of a tenant for its owners; of everything for an admin."""
    events = AuditEvent.objects.select_related("user", "tenant")
    if tenant is not None:
        if role_in(user, tenant) is not Role.OWNER:
            raise Missing
        return events.filter(tenant=tenant)
    if not user.is_superuser:
        raise Missing
    return events
