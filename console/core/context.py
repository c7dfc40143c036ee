"""What every page's frame needs."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def page(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    tenant = getattr(request, "tenant", None)
    if user is None or not user.is_authenticated:
        return {"tenant": None, "role": None, "tenants": [], "theme": "auto", "node": settings.NODE}
    from console.accounts import selectors

    return {
        "tenant": tenant,
        "role": getattr(request, "role", None),
        "seen": getattr(request, "seen", None),
        "tenants": selectors.tenants(user),
        "theme": user.theme,
        "node": settings.NODE,
    }
