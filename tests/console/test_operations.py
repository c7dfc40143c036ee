from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from console.accounts.models import Tenant, User
from console.core.errors import Invalid
from console.operations import services
from console.operations.models import Operation


def _submit(tenant: Tenant, actor: User, **more: Any) -> Operation:
    wanted: dict[str, Any] = {"kind": Operation.Kind.PULL, "node": "n1", "request_key": "k", **more}
    return services.submit(tenant=tenant, actor=actor, **wanted)


def test_the_same_key_is_the_same_operation(tenant: Tenant, member: User) -> None:
    assert _submit(tenant, member) == _submit(tenant, member)
    assert Operation.objects.count() == 1
    with pytest.raises(Invalid):
        _submit(tenant, member, kind=Operation.Kind.BUILD)


def test_one_worker_holds_it_until_its_lease_runs_out(tenant: Tenant, member: User) -> None:
    key = _submit(tenant, member).id
    assert services.claim(key, "w1") is not None
    assert services.claim(key, "w2") is None
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert services.claim(key, "w2") is not None
    assert services.renew(key, "w2")
    assert not services.renew(key, "w1")
