"""Names of containers within a tenant: what is free, and what an open rename has taken."""

from __future__ import annotations

import re

from django.db.models import Q
from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.core.errors import Invalid
from console.operations.models import Operation
from console.workloads.models import Container
from runtime.validation import NAME

SUGGESTED = re.compile(r"[^a-z0-9-]+")


def check_name(name: str, field: str = "name") -> None:
    """Raises Invalid."""
    if not NAME.fullmatch(name):
        raise Invalid(
            field, _("Use up to 63 lower-case letters, digits and hyphens, a letter or digit first and last.")
        )


def check_free(tenant: Tenant, name: str) -> None:
    """Raises Invalid."""
    check_name(name)
    if name in taken(tenant, Q(name=name), Q(params__name=name)):
        raise Invalid("name", _("The name %(name)s is taken: choose another.") % {"name": name})


def taken(tenant: Tenant, mine: Q, asked: Q) -> set[str]:
    """By containers, and by renames that are not done yet."""
    rows = Container.objects.of(tenant).filter(mine, removed_at__isnull=True)
    renames = Operation.objects.of(tenant).filter(asked, kind=Operation.Kind.RENAME, state__in=Operation.OPEN)
    return {*rows.values_list("name", flat=True), *renames.values_list("params__name", flat=True)}


def suggest_name(tenant: Tenant, base: str) -> str:
    """A free name like ``nginx-2``."""
    stem = SUGGESTED.sub("-", base.lower()).strip("-")[:40] or "container"
    used = taken(tenant, Q(name__startswith=stem), Q(params__name__startswith=stem))
    return next(
        name for name in (stem, *(f"{stem}-{number}" for number in range(2, len(used) + 3))) if name not in used
    )
