"""Every change to people, tenants and quotas, each with its line in the audit log."""

from __future__ import annotations

import secrets
from itertools import chain, count
from typing import Any

from django.conf import settings
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from console.accounts import address
from console.accounts.models import AuditEvent, Membership, Quota, Role, Tenant, User
from console.accounts.selectors import role_in
from console.core.errors import Invalid, Missing, NotAllowed
from console.core.live import access_changed

MOST_OF_A_USERNAME = 64
MOST_OF_A_QUOTA = {
    "containers": 10**6, "memory_bytes": 2**50, "cpu_millis": 10**9, "published_ports": 65535,
    "volumes": 10**6, "networks": 10**5, "disk_bytes": 2**60, "volume_bytes": 2**60,
}  # fmt: skip


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
    AuditEvent.objects.create(
        verb=verb, user=actor, tenant=tenant, target=target, data=data, address=address.current()
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ users


def new_password() -> str:
    return secrets.token_urlsafe(15)


@transaction.atomic
def create_user(*, actor: User | None, username: str, admin: bool = False) -> tuple[User, str]:
    """The user and the generated password, which is kept nowhere else.  ``actor`` None: the set-up.  Raises Missing, Invalid."""
    if actor is not None:
        require_admin(actor)
    name = _free_username(username)
    password = new_password()
    try:
        with transaction.atomic():
            user = User.objects.create_user(username=name, password=password, is_superuser=admin, is_staff=admin)
    except IntegrityError:
        raise Invalid("username", _taken(name)) from None
    audit("user.create", actor=actor, target=name, admin=admin)
    return user, password


def renew_password(*, user: User) -> str:
    """A new generated password, which is kept nowhere else.  The set-up's, for one that nobody has seen."""
    password = new_password()
    user.set_password(password)
    user.save(update_fields=["password"])
    audit("user.renew-password", actor=None, target=user.username)
    return password


def _free_username(text: str) -> str:
    """As it is stored.  Names that differ in capital letters alone are one name."""
    name = User.normalize_username(text)
    if not name:
        raise Invalid("username", _("Write a user name."))
    if len(name) > MOST_OF_A_USERNAME:
        raise Invalid("username", _("This is too long: %(most)d characters at most.") % {"most": MOST_OF_A_USERNAME})
    try:
        UnicodeUsernameValidator()(name)
    except ValidationError:
        raise Invalid("username", _("Use letters, digits and the signs @ . + - _ and nothing else.")) from None
    if User.objects.filter(username__iexact=name).exists():
        raise Invalid("username", _taken(name))
    return name


def _taken(name: str) -> str:
    return _("The user name %(name)s is taken: choose another.") % {"name": name}


@transaction.atomic
def reset_password(*, actor: User, user: User) -> str:
    """A generated password, shown once; every session of the user ends.  Raises Missing."""
    require_admin(actor)
    password = new_password()
    user.set_password(password)
    user.save(update_fields=["password"])
    access_changed(user.pk)
    audit("user.password_reset", actor=actor, target=user.username)
    return password


@transaction.atomic
def change_password(*, user: User, password: str) -> None:
    """The user's own; the caller has seen the old one and checked the new one."""
    user.set_password(password)
    user.save(update_fields=["password"])
    access_changed(user.pk)
    audit("user.password", actor=user, target=user.username)


@transaction.atomic
def set_active(*, actor: User, user: User, active: bool) -> None:
    """A user who is not active can do nothing, and what was open ends.  Memberships stay.  Raises Missing, Invalid."""
    _another_than_oneself(actor, user)
    User.objects.filter(pk=user.pk).update(is_active=active)
    access_changed(user.pk)
    audit("user.activate" if active else "user.deactivate", actor=actor, target=user.username)


@transaction.atomic
def set_admin(*, actor: User, user: User, admin: bool) -> None:
    """Raises Missing, Invalid."""
    _another_than_oneself(actor, user)
    User.objects.filter(pk=user.pk).update(is_superuser=admin, is_staff=admin)
    access_changed(user.pk)
    audit("user.admin" if admin else "user.no_admin", actor=actor, target=user.username)


def _another_than_oneself(actor: User, user: User) -> None:
    """So an admin always remains, also when two act on each other at once: all admins' rows are locked."""
    admins = User.objects.select_for_update(no_key=True).filter(is_superuser=True, is_active=True).order_by("pk")
    if actor.pk not in [admin.pk for admin in admins]:
        raise Missing
    if actor.pk == user.pk:
        raise Invalid("user", _("You cannot do this to yourself: ask another admin."))


# ------------------------------------------------------------------------------------------------ tenants


@transaction.atomic
def create_tenant(*, actor: User | None, name: str, slug: str = "") -> Tenant:
    """Raises Missing, Invalid."""
    if actor is not None:
        require_admin(actor)
    most = 80
    if not name:
        raise Invalid("name", _("A tenant needs a name."))
    if len(name) > most:
        raise Invalid("name", _("This is too long: %(most)d characters at most.") % {"most": most})
    if Tenant.objects.filter(name__iexact=name).exists():
        raise Invalid("name", _("There is a tenant of that name."))
    tenant = Tenant(name=name)
    tenant.slug = slug or _free_slug(name, otherwise=tenant.id)
    try:
        with transaction.atomic():
            tenant.save(force_insert=True)
    except IntegrityError as error:
        raise Invalid("name", _("There is a tenant of that name.")) from error
    Quota.objects.create(tenant=tenant)
    audit("tenant.create", actor=actor, tenant=tenant, target=tenant.id, name=name)
    return tenant


def _free_slug(name: str, *, otherwise: str) -> str:
    """For file names and columns of exports; a name without Latin letters or digits has the tenant's id."""
    stem = slugify(name)[:36].strip("-")
    taken = set(Tenant.objects.filter(slug__startswith=stem).values_list("slug", flat=True))
    if not stem:
        return otherwise
    numbered = (f"{stem}-{number}" for number in count(2))  # endless: it may not be unpacked
    return next(slug for slug in chain((stem,), numbered) if slug not in taken)


@transaction.atomic
def add_member(*, actor: User | None, tenant: Tenant, username: str, role: Role) -> Membership:
    if actor is not None:
        require(actor, tenant, Role.OWNER)
    name = User.normalize_username(username)
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise Invalid("username", _("There is no user of that name: an admin makes users."))
    membership, created = Membership.objects.get_or_create(user=user, tenant=tenant, defaults={"role": role})
    if not created:
        raise Invalid("username", _("%(user)s is a member already: change the role above.") % {"user": username})
    audit("member.add", actor=actor, tenant=tenant, target=username, role=role)
    return membership


@transaction.atomic
def change_role(*, actor: User, tenant: Tenant, username: str, role: Role) -> Membership:
    membership = _membership(actor, tenant, username)
    if role is not Role.OWNER:
        _keep_an_owner(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    access_changed(membership.user_id)
    audit("member.role", actor=actor, tenant=tenant, target=username, role=role)
    return membership


@transaction.atomic
def remove_member(*, actor: User, tenant: Tenant, username: str) -> None:
    membership = _membership(actor, tenant, username)
    _keep_an_owner(membership)
    membership.delete()
    access_changed(membership.user_id)
    audit("member.remove", actor=actor, tenant=tenant, target=username)


def _membership(actor: User, tenant: Tenant, username: str) -> Membership:
    """One change of a tenant's members at a time; whoever lost the right meanwhile is refused."""
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    require(actor, tenant, Role.OWNER)
    found = Membership.objects.filter(tenant=tenant, user__username=username).first()
    if found is None:
        raise Invalid("username", _("Nobody of that name is a member."))
    return found


def _keep_an_owner(membership: Membership) -> None:
    """One who can sign in."""
    owners = Membership.objects.filter(tenant=membership.tenant, role=Role.OWNER, user__is_active=True)
    if membership.role == Role.OWNER and not owners.exclude(pk=membership.pk).exists():
        raise Invalid("role", _("A tenant needs an owner: make somebody else one first."))


@transaction.atomic
def set_quota(*, actor: User, tenant: Tenant, **wanted: int | None) -> Quota:
    """``wanted``: fields of the quota; those that are not given stay.  None, of bytes on disk: no ceiling.  Raises Missing, Invalid."""
    require_admin(actor)
    for field, value in wanted.items():
        if value is None and not Quota._meta.get_field(field).null:  # noqa: SLF001 -- Django documents _meta
            raise Invalid(field, _("Write a whole number."))
        if value is not None and not 0 <= value <= MOST_OF_A_QUOTA[field]:
            raise Invalid(field, _quota_bounds(field))
    quota, _created = Quota.objects.update_or_create(tenant=tenant, defaults=wanted)
    audit("tenant.quota", actor=actor, tenant=tenant, target=tenant.id, name=tenant.name, **wanted)
    return quota


def _quota_bounds(field: str) -> str:
    most = MOST_OF_A_QUOTA[field]
    shown = f"{most // 2**30} GiB" if field.endswith("_bytes") else str(most)
    shown = f"{most // 1000} vCPU" if field == "cpu_millis" else shown
    return _("Choose from 0 to %(most)s.") % {"most": shown}


# ------------------------------------------------------------------------------------------------ preferences


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
