"""Whose figures a page shows: those of the person's tenant or, for an admin who asks for it, everybody's."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from console.accounts import selectors as accounts
from console.accounts.models import Tenant
from console.accounts.services import require_admin
from console.core.requests import person, tenant_of


@dataclass(frozen=True, slots=True)
class Scope:
    tenant: Tenant | None
    """None: everybody's."""
    everybody: bool
    """An admin's page, of all tenants or of the one that it names."""

    @property
    def pages(self) -> list[tuple[str, str, str]]:
        """Name, what it is called, and where it is."""
        named = {
            "usage": _("Usage"),
            "records": _("Records"),
            "invoices": _("Invoices"),
            "budget": _("Budget"),
            "metering-error": _("Metering error"),
            "exports": _("Exports"),
        }
        found = [(name, label, self.url(name)) for name, label in named.items()]
        return found if self.everybody else [*found, ("sql", "SQL", reverse("metering:sql"))]

    def url(self, name: str, month: str = "", **query: object) -> str:
        """Of another page of the same scope, with what of the query is not empty."""
        asked = {"tenant": self.tenant.pk if self.everybody and self.tenant else "", **query}
        words = {key: str(value) for key, value in asked.items() if value not in (None, "")}
        where = reverse(
            f"metering:{'all-' if self.everybody else ''}{name}", kwargs={"month": month} if month else None
        )
        return where + (f"?{urlencode(words)}" if words else "")


def scope(request: HttpRequest, *, everybody: bool) -> Scope:
    """``?tenant=`` narrows an admin's page to one.  Raises Missing, Http404."""
    if not everybody:
        return Scope(tenant_of(request), everybody=False)
    user = person(request).user
    require_admin(user)
    asked = request.GET.get("tenant", "")
    return Scope(accounts.tenant(user, asked) if asked else None, everybody=True)
