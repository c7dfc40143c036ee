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


def test_a_tenant_has_its_share_of_the_nodes_hands(
    tenant: Tenant, member: User, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long on purpose keeps nobody else's waiting, nor its own that is done in a moment."""
    rung: list[str] = []
    monkeypatch.setattr(services, "ring", lambda id, _node: rung.append(id))
    pulls = [_submit(tenant, member, request_key=f"p{number}").id for number in range(6)]
    claimed = [services.claim(id, "w1") for id in pulls]
    assert [one is not None for one in claimed] == [True] * 4 + [False] * 2
    stop = _submit(tenant, member, kind=Operation.Kind.STOP, request_key="stop").id
    assert services.claim(stop, "w1") is not None
    other = Tenant.objects.create(name="another", slug="another")
    assert services.claim(_submit(other, member, request_key="o").id, "w1") is not None
    assert services.claim(
        services.submit(tenant=None, actor=None, kind=Operation.Kind.BUILD, node="n1", request_key="b").id, "w1"
    )
    first = claimed[0]
    assert first is not None
    with django_capture_on_commit_callbacks(execute=True):
        services.succeed(first)
    assert rung == pulls[4:], "those that waited for it, the oldest first"
    assert [services.claim(id, "w1") is not None for id in pulls[4:]] == [True, False]
    waiting = _submit(tenant, member, request_key="p6")
    assert services.claim(waiting.id, "w1") is None
    services.cancel(waiting, actor=member)
    assert services.claim(waiting.id, "w1") is not None, "it ends at its first step, and waits for no hour before"
    Operation.objects.filter(state=Operation.State.RUNNING).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert services.claim(pulls[5], "w2") is not None, "a lost worker's count no more"


def test_the_sweep_rings_for_what_is_quiet_for_longest(
    tenant: Tenant, member: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of one tenant that wait for its share are rung for again and again, and are newer."""
    rung: list[str] = []
    monkeypatch.setattr(services, "ring", lambda id, _node: rung.append(id))
    other = Tenant.objects.create(name="another", slug="another")
    first = _submit(other, member)
    now = timezone.now()
    wanted = {"tenant": tenant, "kind": Operation.Kind.PULL, "node": "n1", "rung_at": now - timedelta(seconds=30)}
    Operation.objects.bulk_create(Operation(request_key=f"k{number}", **wanted) for number in range(250))
    Operation.objects.filter(pk=first.pk).update(
        created_at=now - timedelta(hours=1), rung_at=now - timedelta(minutes=1)
    )
    services.sweep()
    assert len(rung) == 200
    assert rung[0] == first.pk
