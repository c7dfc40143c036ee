"""Every change to people, tenants and quotas, each with its line in the audit log."""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from console.accounts.models import AuditEvent, Membership, Quota, Role, Tenant, User
from console.accounts.selectors import role_in
from console.core.errors import Invalid, Missing, NotAllowed


def require(user: User, tenant: Tenant, role: Role) -> None:
    """An outsider learns nothing (Missing); a member with too small a role is told so (NotAllowed)."""
    held = role_in(user, tenant)
    if held is None:
        raise Missing
    if not held.includes(role):
        raise NotAllowed(_("Your role in %(tenant)s does not allow this.") % {"tenant": tenant.name})


def require_admin(user: User) -> None:
    if not (user.is_active and user.is_superuser):
        raise Missing


def audit(verb: str, *, actor: User | None, tenant: Tenant | None = None, target: str = "", **data: Any) -> None:
    AuditEvent.objects.create(verb=verb, user=actor, tenant=tenant, target=target, data=data)


def new_password() -> str:
    return secrets.token_urlsafe(15)


@transaction.atomic
def create_user(*, actor: User | None, username: str, admin: bool = False) -> tuple[User, str]:
    """The user and the generated password, which is kept nowhere else.  ``actor`` None: the set-up."""
    if actor is not None:
        require_admin(actor)
    if not username or User.objects.filter(username=username).exists():
        raise Invalid("username", _("That user name is taken or empty."))
    password = new_password()
    user = User.objects.create_user(username=username, password=password, is_superuser=admin, is_staff=admin)
    audit("user.create", actor=actor, target=username, admin=admin)
    return user, password


def renew_password(*, user: User) -> str:
    """A new generated password, which is kept nowhere else.  The set-up's, for one that nobody has seen."""
    password = new_password()
    user.set_password(password)
    user.save(update_fields=["password"])
    audit("user.renew-password", actor=None, target=user.username)
    return password


@transaction.atomic
def create_tenant(*, actor: User | None, name: str, slug: str = "") -> Tenant:
    if actor is not None:
        require_admin(actor)
    slug = slug or slugify(name)
    if not slug:
        raise Invalid("name", _("A tenant needs a name with letters or digits."))
    try:
        with transaction.atomic():
            tenant = Tenant.objects.create(name=name, slug=slug)
    except IntegrityError as error:
        raise Invalid("name", _("There is a tenant of that name.")) from error
    Quota.objects.create(tenant=tenant)
    audit("tenant.create", actor=actor, tenant=tenant, target=tenant.id, name=name)
    return tenant


@transaction.atomic
def add_member(*, actor: User | None, tenant: Tenant, username: str, role: Role) -> Membership:
    if actor is not None:
        require(actor, tenant, Role.OWNER)
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise Invalid("username", _("There is no user of that name."))
    membership, created = Membership.objects.get_or_create(user=user, tenant=tenant, defaults={"role": role})
    if not created:
        raise Invalid("username", _("%(user)s is a member already.") % {"user": username})
    audit("member.add", actor=actor, tenant=tenant, target=username, role=role)
    return membership


@transaction.atomic
def change_role(*, actor: User, tenant: Tenant, username: str, role: Role) -> Membership:
    membership = _membership(actor, tenant, username)
    if role is not Role.OWNER:
        _keep_an_owner(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    audit("member.role", actor=actor, tenant=tenant, target=username, role=role)
    return membership


@transaction.atomic
def remove_member(*, actor: User, tenant: Tenant, username: str) -> None:
    membership = _membership(actor, tenant, username)
    _keep_an_owner(membership)
    membership.delete()
    audit("member.remove", actor=actor, tenant=tenant, target=username)


@transaction.atomic
def set_quota(
    *, actor: User, tenant: Tenant, containers: int, memory_bytes: int, cpu_millis: int, published_ports: int
) -> Quota:
    require_admin(actor)
    wanted = {
        "containers": containers,
        "memory_bytes": memory_bytes,
        "cpu_millis": cpu_millis,
        "published_ports": published_ports,
    }
    for field, value in wanted.items():
        if value < 0:
            raise Invalid(field, _("A quota is 0 or more."))
    quota, _created = Quota.objects.update_or_create(tenant=tenant, defaults=wanted)
    audit("tenant.quota", actor=actor, tenant=tenant, target=tenant.id, **wanted)
    return quota


@transaction.atomic
def set_language(*, user: User, language: str) -> None:
    if language not in {"", *dict(settings.LANGUAGES)}:
        raise Invalid("language", _("That language is not offered."))
    User.objects.filter(pk=user.pk).update(language=language)
    audit("user.language", actor=user, target=user.username, language=language)


@transaction.atomic
def set_theme(*, user: User, theme: str) -> None:
    if theme not in User.Theme.values:
        raise Invalid("theme", _("That theme is not offered."))
    User.objects.filter(pk=user.pk).update(theme=theme)
    audit("user.theme", actor=user, target=user.username, theme=theme)


def _membership(actor: User, tenant: Tenant, username: str) -> Membership:
    require(actor, tenant, Role.OWNER)
    found = Membership.objects.select_for_update().filter(tenant=tenant, user__username=username).first()
    if found is None:
        raise Missing
    return found


def _keep_an_owner(membership: Membership) -> None:
    owners = Membership.objects.select_for_update().filter(tenant=membership.tenant, role=Role.OWNER)
    if membership.role == Role.OWNER and len(owners) == 1:
        raise Invalid("role", _("A tenant needs an owner: make somebody else one first."))
