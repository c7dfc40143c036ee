"""Named people: an owner, a member, a viewer, an outsider of another tenant, and the admin of the system; and a container of the tenant's."""

from __future__ import annotations

import pytest

from console.accounts.models import Membership, Quota, Role, Tenant, User
from console.workloads.models import Container


@pytest.fixture
def tenant(db: None) -> Tenant:
    made = Tenant.objects.create(name="Acme", slug="acme")
    Quota.objects.create(tenant=made)
    return made


def _member(tenant: Tenant, name: str, role: Role) -> User:
    user = User.objects.create_user(username=name, password=name)
    Membership.objects.create(user=user, tenant=tenant, role=role)
    return user


@pytest.fixture
def owner(tenant: Tenant) -> User:
    return _member(tenant, "olivia", Role.OWNER)


@pytest.fixture
def member(tenant: Tenant) -> User:
    return _member(tenant, "max", Role.MEMBER)


@pytest.fixture
def viewer(tenant: Tenant) -> User:
    return _member(tenant, "vera", Role.VIEWER)


@pytest.fixture
def outsider(db: None) -> User:
    return _member(Tenant.objects.create(name="Other", slug="other"), "otto", Role.OWNER)


@pytest.fixture
def admin(db: None) -> User:
    return User.objects.create_superuser(username="ada", password="ada")


@pytest.fixture
def container(tenant: Tenant) -> Container:
    """As its row says: nothing runs."""
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500
    )
