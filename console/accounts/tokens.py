"""Tokens by which a program reads a tenant's metrics, as a viewer would see them, and nothing else.

The token is shown once, when it is made; kept is its SHA-256.  It holds 256 random bits, so it can neither be guessed nor found
again from what is kept.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from console.accounts.models import MetricsToken, Role, Tenant, User
from console.accounts.services import audit, require
from console.core.errors import Invalid, Missing

PREFIX = "slm_"
"""So that a token is known for what it is where somebody finds one."""
MOST = 20
USED_EVERY = timedelta(minutes=1)
"""How exactly ``used_at`` is kept: a scraper comes every few seconds."""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def tokens(tenant: Tenant) -> QuerySet[MetricsToken]:
    return MetricsToken.objects.filter(tenant=tenant).select_related("created_by")


def create(*, actor: User, tenant: Tenant, name: str) -> tuple[MetricsToken, str]:
    """The row and the token, which is kept nowhere.  Raises Missing, NotAllowed, Invalid."""
    require(actor, tenant, Role.OWNER)
    most = 60
    if not name:
        raise Invalid("name", _("Write what it is for, such as the name of the scraper."))
    if len(name) > most:
        raise Invalid("name", _("This is too long: %(most)d characters at most.") % {"most": most})
    if tokens(tenant).count() >= MOST:
        raise Invalid("name", _("A tenant has at most %(most)d tokens: revoke one first.") % {"most": MOST})
    token = PREFIX + secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            made = MetricsToken.objects.create(tenant=tenant, name=name, sha256=_digest(token), created_by=actor)
            audit("token.create", actor=actor, tenant=tenant, target=str(made.pk), name=name)
    except IntegrityError:
        raise Invalid("name", _("There is a token of that name: choose another.")) from None
    return made, token


@transaction.atomic
def revoke(*, actor: User, tenant: Tenant, id: int) -> str:
    """Refused from the next request on; returns its name.  Raises Missing, NotAllowed."""
    require(actor, tenant, Role.OWNER)
    found = tokens(tenant).filter(pk=id).first()
    if found is None:
        raise Missing
    audit("token.revoke", actor=actor, tenant=tenant, target=str(found.pk), name=found.name)
    found.delete()
    return found.name


def tenant_of(header: str) -> Tenant:
    """Whose metrics the ``Authorization`` header opens.  Raises Missing."""
    scheme, _space, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Missing
    found = MetricsToken.objects.select_related("tenant").filter(sha256=_digest(token.strip())).first()
    if found is None:
        raise Missing
    now = timezone.now()
    old = Q(used_at__isnull=True) | Q(used_at__lt=now - USED_EVERY)
    MetricsToken.objects.filter(old, pk=found.pk).update(used_at=now)
    return found.tenant
