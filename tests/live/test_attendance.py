"""While the work on an operation goes on: its progress is written, its lease renewed, and a database that is away for a moment stops nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from console.accounts.models import Tenant, User
from console.operations import attendance, services
from console.operations.models import Operation
from runtime.api import Step

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operation(tenant: Tenant, member: User, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Operation:
    settings.CELERY_TASK_ALWAYS_EAGER = False
    monkeypatch.setattr(services, "ring", lambda *_: None)
    monkeypatch.setattr(attendance, "WRITE_EVERY_S", 0.01)
    monkeypatch.setattr(attendance, "RENEW_EVERY_S", 0.02)
    submitted = services.submit(tenant=tenant, actor=member, kind=Operation.Kind.PULL, node="n1", request_key="k")
    claimed = services.claim(submitted.id, "w1")
    assert claimed is not None
    return claimed


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _row() -> Operation:
    return Operation.objects.get()


def test_the_latest_step_is_written(operation: Operation) -> None:
    with attendance.attended(operation) as progress:
        progress(Step("download", 1, 10))
        progress(Step("download", 7, 10, "layer"))
        _until(lambda: (_row().stage, _row().done, _row().total, _row().detail) == ("download", 7, 10, "layer"))


def test_the_lease_is_renewed(operation: Operation) -> None:
    Operation.objects.update(lease_until=timezone.now() + timedelta(seconds=1))
    with attendance.attended(operation):
        _until(lambda: _row().lease_until > timezone.now() + timedelta(seconds=2))


def test_a_database_that_is_away_is_asked_again(operation: Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = services.report, []

    def away_once(operation: Operation, step: Step) -> bool:
        asked.append(step)
        if len(asked) == 1:
            raise DatabaseError("away")
        return real(operation, step)

    monkeypatch.setattr(services, "report", away_once)
    with attendance.attended(operation) as progress:
        progress(Step("unpack", 3, 4))
        _until(lambda: _row().stage == "unpack")
    assert len(asked) == 2


def test_whoever_lost_the_lease_writes_nothing(operation: Operation) -> None:
    Operation.objects.update(worker="w2")
    assert not services.report(operation, Step("unpack", 1, 2))
    assert _row().stage == ""
