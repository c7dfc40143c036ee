from __future__ import annotations

from tests.console.conftest import admin, member, outsider, owner, tenant, viewer

__all__ = ["admin", "member", "outsider", "owner", "tenant", "viewer"]
