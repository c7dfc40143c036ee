"""Who may do what in a tenant, and what an outsider learns: nothing."""

from __future__ import annotations

import pytest

from console.accounts import selectors, services
from console.accounts.models import AuditEvent, Membership, Role, Tenant, User
from console.core.errors import Invalid, Missing, NotAllowed


def test_roles_include_the_smaller_ones(tenant: Tenant, owner: User, member: User, viewer: User, admin: User) -> None:
    services.require(owner, tenant, Role.OWNER)
    services.require(admin, tenant, Role.OWNER)
    services.require(member, tenant, Role.MEMBER)
    for person, role in [(member, Role.OWNER), (viewer, Role.MEMBER)]:
        with pytest.raises(NotAllowed):
            services.require(person, tenant, role)


def test_an_outsider_learns_nothing(tenant: Tenant, outsider: User) -> None:
    with pytest.raises(Missing):
        services.require(outsider, tenant, Role.VIEWER)
    with pytest.raises(Missing):
        selectors.tenant(outsider, tenant.id)
    with pytest.raises(Missing):
        selectors.audit(outsider, tenant)


def test_an_owner_adds_a_user_and_it_is_audited(tenant: Tenant, owner: User, outsider: User) -> None:
    services.add_member(actor=owner, tenant=tenant, username=outsider.username, role=Role.VIEWER)
    assert selectors.role_in(outsider, tenant) is Role.VIEWER
    assert AuditEvent.objects.filter(verb="member.add", user=owner, target=outsider.username).count() == 1


def test_the_last_owner_stays(tenant: Tenant, owner: User) -> None:
    with pytest.raises(Invalid):
        services.remove_member(actor=owner, tenant=tenant, username=owner.username)
    with pytest.raises(Invalid):
        services.change_role(actor=owner, tenant=tenant, username=owner.username, role=Role.VIEWER)
    assert Membership.objects.get(user=owner).role == Role.OWNER


def test_only_an_admin_sets_quotas(tenant: Tenant, owner: User, admin: User) -> None:
    wanted = {"containers": 1, "memory_bytes": 2, "cpu_millis": 3, "published_ports": 4}
    with pytest.raises(Missing):
        services.set_quota(actor=owner, tenant=tenant, **wanted)
    assert services.set_quota(actor=admin, tenant=tenant, **wanted).containers == 1
