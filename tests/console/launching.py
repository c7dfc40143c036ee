"""Launching and operating with the fake engine: the fixture and the steps that several files of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from console.accounts.models import Tenant, User
from console.operations import engine as engines
from console.operations import services as operations
from console.operations.models import Operation
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container
from console.workloads.services import LaunchRequest
from runtime.engines.fake.engine import FakeEngine

BUSYBOX = LaunchRequest(name="box", recipe="busybox", command="sleep 100", memory_bytes=64 << 20, cpu_millis=500)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: object, settings: object) -> Iterator[FakeEngine]:
    settings.HOME = tmp_path  # type: ignore[attr-defined]
    monkeypatch.setattr(engines, "_engine", None)
    monkeypatch.setattr(operations, "ring", lambda *_: None)
    made = engines.current()
    assert isinstance(made, FakeEngine)
    return made


def launched(tenant: Tenant, member: User, request: LaunchRequest = BUSYBOX, key: str = "k") -> Container:
    operation = services.launch(tenant=tenant, actor=member, request=request, request_key=key)
    run(operation=operation.id)
    assert operation.container_id
    return Container.objects.get(pk=operation.container_id)


def act(container: Container, member: User, verb: str) -> Operation:
    operation = services.act(
        container=container, actor=member, verb=verb, request_key=f"{verb}-{Operation.objects.count()}"
    )
    run(operation=operation.id)
    operation.refresh_from_db()
    return operation
