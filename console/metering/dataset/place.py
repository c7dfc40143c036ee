"""Where a tenant's tables lie.  Apart, so that the agent need not load what writes them."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings


def folder(tenant_id: str) -> Path:
    return Path(settings.HOME) / "dataset" / tenant_id
